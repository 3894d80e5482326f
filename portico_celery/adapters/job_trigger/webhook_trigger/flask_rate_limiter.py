"""Counts by Flask-Limiter: in Redis, shared by all processes, or in this process's memory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http import HTTPStatus
from math import ceil

from flask_limiter import RequestLimit
from limits.errors import StorageError

from portico_celery.adapters.job_trigger.webhook_trigger.flask_counter import Counted, Counter
from portico_celery.adapters.job_trigger.webhook_trigger.problem import Problem
from portico_celery.adapters.job_trigger.webhook_trigger.rate_limits import RateLimiter, RateLimits, most_at_once
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

_RETRY_STORAGE_SECONDS = 5.0


class FlaskRateLimiter(RateLimiter):
    """Counts while Flask serves a request. Where Redis is away it counts in memory, each process for itself.

    Raises ConfigurationError where the storage's driver is not installed.
    """

    def __init__(self, limits: RateLimits) -> None:
        self._limits = limits
        self._own = Counter("memory://")
        self._shared = self._own if limits.in_memory else Counter(limits.storage)
        self._shared_from = 0.0

    def count_address(self, address: str) -> None:
        """Count a request. Raises Problem (429)."""
        if self._limits.per_address:
            # A client on a Unix socket has no address.
            self._count(Counted(limit=self._limits.per_address, scope="address", key=address or "none"))

    def count_caller(self, caller: str | None) -> Mapping[str, str]:
        """Count a request that has been verified; returns the headers that say what is left. Raises Problem (429)."""
        if not self._limits.per_caller:
            return {}
        return _quota(self._count(Counted(limit=self._limits.per_caller, scope="caller", key=caller or "anyone")))

    def count_jobs(self, job_type: str, number: int = 1) -> None:
        """Count jobs of a type. Raises Problem: 429, or 400 for more at once than the limit will ever let pass."""
        limit = self._limits.per_job_type.get(job_type)
        if limit is None:
            return
        most = most_at_once(limit)
        if number > most:
            detail = f"So many jobs of this type are too much at any time: at most {most} at once."
            raise Problem(HTTPStatus.BAD_REQUEST, detail)
        self._count(Counted(limit=limit, scope="job_type", key=job_type, cost=number))

    def _count(self, counted: Counted) -> RequestLimit | None:
        limit = self._counted(counted)
        if limit is not None and limit.breached:
            raise _too_many(limit)
        return limit

    def _counted(self, counted: Counted) -> RequestLimit | None:
        counter = self._shared if time.monotonic() >= self._shared_from else self._own
        try:
            return counter.count(counted)
        except StorageError as error:
            # Counting is no reason to refuse work.
            self._shared_from = time.monotonic() + _RETRY_STORAGE_SECONDS
            logger.warning("rate_limit_storage_unavailable", error=str(error), advice="each process counts for itself")
            return self._own.count(counted)


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


def _too_many(limit: RequestLimit) -> Problem:
    quota = _quota(limit)
    # Some may be left: too few for all that were asked for at once.
    headers = {"Retry-After": quota.get("RateLimit-Reset", str(limit.limit.get_expiry())), **quota}
    return Problem(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests: wait for Retry-After seconds.", headers=headers)
