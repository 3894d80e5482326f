"""A high-water mark: where too many jobs wait already, no more are taken in."""

from __future__ import annotations

import time
from http import HTTPStatus

from portico_celery.adapters.job_trigger.webhook_trigger.problem import Problem
from portico_celery.ports.job import Job
from portico_celery.ports.job_reader import JobReader

#: Counting a queue is a query: how many wait is asked at most once in so many seconds.
_COUNT_SECONDS = 1.0
_MAX_QUEUES = 1_000
_RETRY_AFTER = {"Retry-After": "30"}


class Backlog:
    """Knows, roughly, how many jobs of each queue wait."""

    def __init__(self, reader: JobReader | None, max_pending: int | None, default_queue: str) -> None:
        self._reader = reader
        self._max_pending = max_pending
        self._default_queue = default_queue
        self._counted: dict[str, tuple[float, int]] = {}
        self._registered: dict[str, str] = {}

    def note(self, job: Job, asked_for: str) -> None:
        """Remember where jobs that ask for the default queue go: their type may be registered with another."""
        if job.queue_name != asked_for:
            self._registered[job.job_type] = job.queue_name

    async def require_room(self, job_type: str, asked_for: str, number: int = 1) -> None:
        """Raise Problem (503) where more than ``max_pending`` jobs would wait; else there are as many more now."""
        if self._max_pending is None or self._reader is None:
            return
        queue_name = self._registered.get(job_type, asked_for) if asked_for == self._default_queue else asked_for
        counted_at, pending = await self._pending(self._reader, queue_name)
        if pending + number > self._max_pending:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE, "Too many jobs wait already; try again later.", headers=_RETRY_AFTER
            )
        self._counted[queue_name] = (counted_at, pending + number)

    async def _pending(self, reader: JobReader, queue_name: str) -> tuple[float, int]:
        known = self._counted.get(queue_name)
        if known is not None and time.monotonic() - known[0] <= _COUNT_SECONDS:
            return known
        if len(self._counted) >= _MAX_QUEUES:
            self._counted.clear()  # queue names are the callers' own
        return time.monotonic(), (await reader.get_queue_stats(queue_name)).pending_count
