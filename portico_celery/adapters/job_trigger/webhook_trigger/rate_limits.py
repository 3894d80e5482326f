"""How often callers may come. The counters are in Redis, shared by all processes, or in this process's memory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from math import ceil
from typing import cast

from limits import RateLimitItem, parse
from limits.errors import ConfigurationError as LimitsConfigurationError
from limits.errors import StorageError
from limits.storage import MemoryStorage, Storage, storage_from_string
from limits.strategies import SlidingWindowCounterRateLimiter

from portico_celery.adapters.job_trigger.webhook_trigger.problem import Problem
from portico_celery.exceptions import ConfigurationError
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

_REDIS_TIMEOUT = 0.5
_RETRY_STORAGE_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class RateLimits:
    """Each limit is as the library ``limits`` reads it: ``100/minute``, ``5/second``. None is no limit.

    ``per_address`` counts before anything is verified, ``per_caller`` after (the caller of an API key, or a source),
    ``per_job_type`` each job. ``storage`` is ``memory://`` or ``redis://host:6379/0``.
    """

    per_address: str | None = None
    per_caller: str | None = None
    per_job_type: Mapping[str, str] = field(default_factory=dict)
    storage: str = field(default="memory://", repr=False)

    def __post_init__(self) -> None:
        for text in (self.per_address, self.per_caller, *self.per_job_type.values()):
            if text is not None:
                _parsed(text)
        if self.storage.partition("://")[0] not in ("memory", "redis", "rediss"):
            raise ConfigurationError("the storage of rate limits must be memory:// or the URL of a Redis")


class RateLimiter:
    """Counts, and refuses what is too much. Where Redis is away it counts in memory, each process for itself."""

    def __init__(self, limits: RateLimits) -> None:
        self._per_address = limits.per_address and _parsed(limits.per_address)
        self._per_caller = limits.per_caller and _parsed(limits.per_caller)
        self._per_job_type = {name: _parsed(text) for name, text in limits.per_job_type.items()}
        self._url = limits.storage
        self._shared_from = 0.0

    def count_address(self, address: str) -> None:
        """Count a request. Raises Problem (429)."""
        if self._per_address:
            self._hit(self._per_address, "address", address)

    def count_caller(self, caller: str | None) -> Mapping[str, str]:
        """Count a request that has been verified; returns the headers that say what is left. Raises Problem (429)."""
        if not self._per_caller:
            return {}
        names = ("caller", caller or "anyone")
        limiter = self._hit(self._per_caller, *names)
        return _quota(limiter, self._per_caller, names)

    def count_jobs(self, job_type: str, number: int = 1) -> None:
        """Count jobs of a type. Raises Problem: 429, or 400 for more at once than the limit will ever let pass."""
        limit = self._per_job_type.get(job_type)
        if limit is not None and number > limit.amount:
            detail = f"So many jobs of this type are too much at any time: at most {limit.amount} at once."
            raise Problem(HTTPStatus.BAD_REQUEST, detail)
        if limit is not None:
            self._hit(limit, "job_type", job_type, cost=number)

    def _hit(self, limit: RateLimitItem, *names: str, cost: int = 1) -> SlidingWindowCounterRateLimiter:
        try:
            limiter = self._shared if time.monotonic() >= self._shared_from else self._own
            allowed = limiter.hit(limit, *names, cost=cost)
        except StorageError as error:
            # Counting is no reason to refuse work.
            self._shared_from = time.monotonic() + _RETRY_STORAGE_SECONDS
            logger.warning("rate_limit_storage_unavailable", error=str(error), advice="each process counts for itself")
            limiter = self._own
            allowed = limiter.hit(limit, *names, cost=cost)
        if not allowed:
            raise _too_many(limiter, limit, names)
        return limiter

    @cached_property
    def _own(self) -> SlidingWindowCounterRateLimiter:
        return SlidingWindowCounterRateLimiter(MemoryStorage())

    @cached_property
    def _shared(self) -> SlidingWindowCounterRateLimiter:
        return self._own if self._url.startswith("memory") else SlidingWindowCounterRateLimiter(_redis(self._url))


def _redis(url: str) -> Storage:
    try:
        storage = storage_from_string(
            url, wrap_exceptions=True, socket_timeout=_REDIS_TIMEOUT, socket_connect_timeout=_REDIS_TIMEOUT
        )
    except LimitsConfigurationError as error:
        raise ConfigurationError("rate limits in Redis need redis-py: pip install 'portico-celery[redis]'") from error
    return cast("Storage", storage)  # not one of its asynchronous kinds


def _quota(limiter: SlidingWindowCounterRateLimiter, limit: RateLimitItem, names: tuple[str, ...]) -> dict[str, str]:
    try:
        reset_time, remaining = limiter.get_window_stats(limit, *names)
    except StorageError:
        return {}
    return {
        "RateLimit-Limit": str(limit.amount),
        "RateLimit-Remaining": str(remaining),
        "RateLimit-Reset": str(max(1, ceil(reset_time - time.time()))),
    }


def _too_many(limiter: SlidingWindowCounterRateLimiter, limit: RateLimitItem, names: tuple[str, ...]) -> Problem:
    quota = _quota(limiter, limit, names)
    # Some may be left: too few for all that were asked for at once.
    headers = {"Retry-After": quota.get("RateLimit-Reset", str(limit.get_expiry())), **quota}
    return Problem(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests: wait for Retry-After seconds.", headers=headers)


def _parsed(text: str) -> RateLimitItem:
    try:
        return parse(text)
    except ValueError:
        raise ConfigurationError(f"{text!r} is no rate limit: write 100/minute, 5/second or the like") from None
