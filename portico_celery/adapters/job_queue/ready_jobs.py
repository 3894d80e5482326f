"""The jobs that may start, in the order in which they are handed out."""

from __future__ import annotations

import heapq
import itertools
from datetime import datetime
from uuid import UUID

from portico_celery.ports.job import Job

_Entry = tuple[int, datetime, int, tuple[UUID, str]]


class ReadyJobs:
    """Higher priority first, then the oldest. Not safe by itself: its owner holds a lock around each call."""

    def __init__(self) -> None:
        self._by_queue: dict[str, list[_Entry]] = {}
        self._known: set[UUID] = set()
        self._order = itertools.count()

    def add(self, job: Job) -> bool:
        """Add a job; False where it is there already."""
        if job.id in self._known or job.created_at is None:
            return False
        self._known.add(job.id)
        heap = self._by_queue.setdefault(job.queue_name, [])
        heapq.heappush(heap, (-job.priority, job.created_at, next(self._order), (job.id, job.job_type)))
        return True

    def pop(self, queue_name: str) -> tuple[UUID, str] | None:
        """Take out a queue's next job, its id and type. It may have been taken or cancelled meanwhile."""
        heap = self._by_queue.get(queue_name)
        if not heap:
            self._by_queue.pop(queue_name, None)
            return None
        job_id, job_type = heapq.heappop(heap)[-1]
        self._known.discard(job_id)
        return job_id, job_type

    def any(self, queue_name: str) -> bool:
        """Whether a queue has any."""
        return bool(self._by_queue.get(queue_name))
