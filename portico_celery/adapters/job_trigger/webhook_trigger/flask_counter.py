"""Flask-Limiter, as something that counts whatever it is told to, with one storage."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass

from flask import Flask
from flask_limiter import Limiter, RateLimitExceeded, RequestLimit
from limits.errors import ConfigurationError as LimitsConfigurationError

from portico_celery.adapters.job_trigger.webhook_trigger.rate_limits import STORAGES
from portico_celery.exceptions import ConfigurationError

_STRATEGY = "sliding-window-counter"
_REDIS_TIMEOUT = 0.5


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What is being counted. Flask-Limiter asks for each of these by a function without arguments."""

    limit: str
    scope: str
    key: str
    cost: int = 1


_counted: ContextVar[Counted] = ContextVar("portico_webhook_counted")


class Counter:
    """A Flask-Limiter with its storage."""

    def __init__(self, url: str) -> None:
        self._extension = _extension(url)
        self._hit: Callable[[], None] = self._extension.shared_limit(
            lambda: _counted.get().limit,
            scope=lambda _endpoint: _counted.get().scope,
            key_func=_key,
            cost=lambda: _counted.get().cost,
        )(_passed)

    def count(self, counted: Counted) -> RequestLimit | None:
        """Count, and return how it stands, ``breached`` if it was too much. Raises StorageError."""
        token = _counted.set(counted)
        try:
            with suppress(RateLimitExceeded):  # the limit says so too
                self._hit()
        finally:
            _counted.reset(token)
        return self._extension.current_limit


def _passed() -> None:
    """Is within its limits when it is called."""


def _key() -> str:
    return _counted.get().key


def _extension(url: str) -> Limiter:
    redis = {"socket_timeout": _REDIS_TIMEOUT, "socket_connect_timeout": _REDIS_TIMEOUT, "wrap_exceptions": True}
    extension = Limiter(
        _key,
        strategy=_STRATEGY,
        storage_uri=url,
        storage_options={} if url.startswith("memory") else redis,  # type: ignore[arg-type]  # redis-py takes floats
        # Its own way to go on in memory fails requests that run at the time, and keeps the reason to itself.
        in_memory_fallback_enabled=False,
        headers_enabled=False,  # its Retry-After would stand in every answer
        key_prefix="portico_webhook",
    )
    try:
        # An application of its own: in that of our host it would take over, and count once more for every address
        # there, the limits that are configured for the host's own Flask-Limiter.
        extension.init_app(Flask(__name__))
    except LimitsConfigurationError as error:
        raise ConfigurationError("rate limits in Redis need redis-py: pip install 'portico-celery[redis]'") from error
    except ValueError:
        # Its words may show a password.
        raise ConfigurationError(f"the storage of rate limits can't be read: it must be {STORAGES}") from None
    return extension
