"""A job store in this process's memory, for tests and trials: nothing survives the process.

It serialises as the others do, so that what works here works there: all that is stored, and all that is handed out,
is a copy by way of JSON.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from portico_celery import lifecycle
from portico_celery.adapters.job_store.memory import due_work
from portico_celery.adapters.job_store.memory.attempts import (
    claim_job,
    copied_claim,
    extend_lease,
    finish_attempt,
    settle_loss,
)
from portico_celery.adapters.job_store.memory.job_filter import page_of
from portico_celery.adapters.job_store.memory.rows import Rows, claimed_of, copied, json_copy, knock_of, record_of
from portico_celery.adapters.job_store.memory.transitions import cancel_job, insert_job, postpone_job, start_afresh
from portico_celery.adapters.job_store.memory_schedules import MemoryScheduleStore
from portico_celery.ports.job import Job, JobStatus, QueueStats
from portico_celery.ports.job_reader import JobFilter, JobPage, JobRecord
from portico_celery.ports.job_store import (
    DEFAULT_RESULT_TTL,
    Claim,
    ClaimedJob,
    DueWork,
    Finish,
    JobStore,
    Lease,
    Postponement,
    Requeued,
)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class MemoryJobStore(JobStore):
    """Keeps jobs in a dict under one lock. ``now`` is the store's clock."""

    def __init__(self, *, now: Callable[[], datetime] = _utc_now, result_ttl: float = DEFAULT_RESULT_TTL) -> None:
        self._result_ttl = timedelta(seconds=result_ttl)
        self._now = now
        # Each method holds it from its first look at the rows to its last.
        self._lock = threading.RLock()
        self._rows = Rows()
        self._schedules = MemoryScheduleStore(now)

    def initialize(self) -> None:
        """There is nothing to create."""

    def close(self) -> None:
        """There is nothing to release; the jobs stay."""

    def clock(self) -> datetime:
        """Return the time."""
        return self._now()

    def schedules(self) -> MemoryScheduleStore:
        """Return the schedules of the same process."""
        return self._schedules

    def insert(self, jobs: Sequence[Job], *, knock_seconds: float) -> list[tuple[Job, bool]]:
        """Store all jobs whose id is new."""
        copies = [copied(job) for job in jobs]  # all before the first is stored: all or none
        with self._lock:
            now = self._now()
            return [insert_job(self._rows, job, now, knock_seconds=knock_seconds) for job in copies]

    def claim(self, claims: Sequence[Claim]) -> list[ClaimedJob | None]:
        """Take each job that may start now."""
        copies = [copied_claim(claim) for claim in claims]
        with self._lock:
            now = self._now()
            return [claim_job(self._rows, claim, now) for claim in copies]

    def finish(self, finishes: Sequence[Finish]) -> list[Job | None]:
        """End attempts."""
        results = [json_copy(finish.transition.result_data) for finish in finishes]
        with self._lock:
            now = self._now()
            return [
                finish_attempt(self._rows, finish, result, now)
                for finish, result in zip(finishes, results, strict=True)
            ]

    def postpone(self, postponements: Sequence[Postponement]) -> list[Job | None]:
        """Put back jobs that a worker has no handler for."""
        with self._lock:
            now = self._now()
            return [postpone_job(self._rows, postponement, now) for postponement in postponements]

    def settle_loss(self, lease: Lease) -> None:
        """Note that the handler has heard of the loss."""
        with self._lock:
            settle_loss(self._rows, lease)

    def extend(self, leases: Sequence[Lease], *, lease_seconds: float) -> list[bool]:
        """Renew leases."""
        with self._lock:
            until = self._now() + timedelta(seconds=lease_seconds)
            return [extend_lease(self._rows, lease, until) for lease in leases]

    def take_due(self, *, limit: int, knock_seconds: float) -> DueWork:
        """Find what is due, move the due time of the rows to knock for, and delete what ended too long ago."""
        with self._lock:
            now = self._now()
            due_work.clear_away(self._rows, now - self._result_ttl)
            return due_work.take_due(self._rows, now, limit=limit, knock_seconds=knock_seconds)

    def count_knocked(self, queue_name: str) -> int:
        """Count the jobs of a queue that wait and have been knocked for."""
        with self._lock:
            return sum(
                row.job.queue_name == queue_name and lifecycle.awaits_its_message(row.job, row.knocks)
                for row in self._rows
            )

    def cancel(self, job_id: UUID, *, running: bool = False) -> bool:
        """Cancel a job that has not started or waits for a retry, or, with ``running``, that runs."""
        with self._lock:
            return cancel_job(self._rows, job_id, self._now(), running=running)

    def requeue(self, job_filter: JobFilter, *, knock_seconds: float) -> Requeued:
        """Start FAILED and DEAD_LETTER jobs afresh, in one step."""
        with self._lock:
            now = self._now()
            page, next_cursor = page_of(self._rows, job_filter, lifecycle.REQUEUABLE)
            for row in page:
                start_afresh(row, now, knock_seconds=knock_seconds)
            return Requeued(knocks=tuple(knock_of(row) for row in page), next_cursor=next_cursor)

    def discard(self, job_filter: JobFilter) -> JobPage:
        """Delete jobs that have ended, in one step."""
        with self._lock:
            page, next_cursor = page_of(self._rows, job_filter, lifecycle.TERMINAL)
            for row in page:
                self._rows.delete(row)
            return JobPage(jobs=tuple(copied(row.job) for row in page), next_cursor=next_cursor)

    def holder(self, job_id: UUID) -> ClaimedJob | None:
        """Return a RUNNING job with the attempt that holds it."""
        with self._lock:
            row = self._rows.get(job_id)
            return None if row is None or row.job.status is not JobStatus.RUNNING else claimed_of(row)

    def get(self, job_id: UUID) -> JobRecord | None:
        """Return the job with its result and history."""
        with self._lock:
            row = self._rows.get(job_id)
            return None if row is None else record_of(row)

    def list_jobs(self, job_filter: JobFilter) -> JobPage:
        """Return one page of jobs, the newest first."""
        with self._lock:
            page, next_cursor = page_of(self._rows, job_filter, frozenset(JobStatus))
            return JobPage(jobs=tuple(copied(row.job) for row in page), next_cursor=next_cursor)

    def stats(self, queue_name: str, *, created_by: UUID | None = None) -> QueueStats:
        """Count the jobs of a queue by state: all of them, or those that one caller has created."""
        with self._lock:
            jobs = (row.job for row in self._rows if row.job.queue_name == queue_name)
            found = [job.status for job in jobs if created_by in (None, job.created_by)]
        return lifecycle.queue_stats(queue_name, {status: found.count(status) for status in JobStatus})

    def oldest_due_seconds(self) -> float:
        """Return for how many seconds the job that is due longest has waited past its time; 0 where none is due."""
        with self._lock:
            since = min((row.not_before for row in self._rows if row.job.status in lifecycle.WAITING), default=None)
            return 0.0 if since is None else max(0.0, (self._now() - since).total_seconds())
