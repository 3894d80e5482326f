"""Counts by Flask-Limiter: in Redis, shared by all processes, or in this process's memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus
from math import ceil

from flask import Flask
from flask_limiter import Limiter, RateLimitExceeded, RequestLimit
from limits.errors import ConfigurationError as LimitsConfigurationError
from limits.errors import StorageError

from portico_celery.adapters.job_trigger.webhook_trigger.problem import Problem
from portico_celery.adapters.job_trigger.webhook_trigger.rate_limits import (
    STORAGES,
    RateLimiter,
    RateLimits,
    most_at_once,
)
from portico_celery.exceptions import ConfigurationError
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

_STRATEGY = "sliding-window-counter"
_REDIS_TIMEOUT = 0.5
_RETRY_STORAGE_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class _Counted:
    """What is being counted. Flask-Limiter asks for each of these by a function without arguments."""

    limit: str
    scope: str
    key: str
    cost: int = 1


_counted: ContextVar[_Counted] = ContextVar("portico_webhook_counted")


class FlaskRateLimiter(RateLimiter):
    """Counts while Flask serves a request. Where Redis is away it counts in memory, each process for itself.

    Raises ConfigurationError where the storage's driver is not installed.
    """

    def __init__(self, limits: RateLimits) -> None:
        self._limits = limits
        self._own = _Counter("memory://")
        self._shared = self._own if limits.in_memory else _Counter(limits.storage)
        self._shared_from = 0.0

    def count_address(self, address: str) -> None:
        """Count a request. Raises Problem (429)."""
        if self._limits.per_address:
            # A client on a Unix socket has no address.
            self._count(_Counted(limit=self._limits.per_address, scope="address", key=address or "none"))

    def count_caller(self, caller: str | None) -> Mapping[str, str]:
        """Count a request that has been verified; returns the headers that say what is left. Raises Problem (429)."""
        if not self._limits.per_caller:
            return {}
        return _quota(self._count(_Counted(limit=self._limits.per_caller, scope="caller", key=caller or "anyone")))

    def count_jobs(self, job_type: str, number: int = 1) -> None:
        """Count jobs of a type. Raises Problem: 429, or 400 for more at once than the limit will ever let pass."""
        limit = self._limits.per_job_type.get(job_type)
        if limit is None:
            return
        most = most_at_once(limit)
        if number > most:
            detail = f"So many jobs of this type are too much at any time: at most {most} at once."
            raise Problem(HTTPStatus.BAD_REQUEST, detail)
        self._count(_Counted(limit=limit, scope="job_type", key=job_type, cost=number))

    def _count(self, counted: _Counted) -> RequestLimit | None:
        counter = self._shared if time.monotonic() >= self._shared_from else self._own
        try:
            return counter.count(counted)
        except StorageError as error:
            # Counting is no reason to refuse work.
            self._shared_from = time.monotonic() + _RETRY_STORAGE_SECONDS
            logger.warning("rate_limit_storage_unavailable", error=str(error), advice="each process counts for itself")
            return self._own.count(counted)


class _Counter:
    """A Flask-Limiter with its storage."""

    def __init__(self, url: str) -> None:
        self._extension = _extension(url)
        self._hit: Callable[[], None] = self._extension.shared_limit(
            lambda: _counted.get().limit,
            scope=lambda _endpoint: _counted.get().scope,
            key_func=_key,
            cost=lambda: _counted.get().cost,
        )(_passed)

    def count(self, counted: _Counted) -> RequestLimit | None:
        """Count, and return how it stands. Raises Problem (429), and StorageError."""
        token = _counted.set(counted)
        try:
            self._hit()
        except RateLimitExceeded as error:
            raise _too_many(error, self._extension.current_limit) from None
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


def _quota(limit: RequestLimit | None) -> dict[str, str]:
    if limit is None:
        return {}
    try:
        reset_time, remaining = limit.window
    except StorageError:
        return {}
    return {
        "RateLimit-Limit": str(limit.limit.amount),
        "RateLimit-Remaining": str(remaining),
        "RateLimit-Reset": str(max(1, ceil(reset_time - time.time()))),
    }


def _too_many(error: RateLimitExceeded, limit: RequestLimit | None) -> Problem:
    quota = _quota(limit)
    # Some may be left: too few for all that were asked for at once.
    headers = {"Retry-After": quota.get("RateLimit-Reset", str(error.limit.limit.get_expiry())), **quota}
    return Problem(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests: wait for Retry-After seconds.", headers=headers)
