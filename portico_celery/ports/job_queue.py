"""The port that a queue of jobs is reached through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from portico_celery.exceptions import NotSupported
from portico_celery.ports.job import Job, QueueStats
from portico_celery.ports.job_reader import JobFilter, JobPage, JobRecord


class JobQueueAdapter(ABC):
    """A queue of jobs: the nine methods of the port, then our own, which an adapter may leave unsupported.

    A job id may be given as a UUID or as its text.
    """

    #: False where the methods await nothing that is bound to an event loop. See JobCreator.needs_event_loop.
    needs_event_loop: bool = True

    @abstractmethod
    async def enqueue(self, job: Job) -> Job:
        """Store the job and make it available: SCHEDULED where ``scheduled_at`` is ahead, else PENDING.

        A job whose id exists changes nothing and the stored one is returned; only where the job passed in says
        FAILED or DEAD_LETTER, and its stored state does too, is it started afresh.
        """

    @abstractmethod
    async def dequeue(self, queue_name: str, timeout: float = 30) -> Job | None:
        """Wait up to ``timeout`` seconds for a job, and take it: RUNNING, higher priority first, then the oldest."""

    @abstractmethod
    async def acknowledge(self, job_id: UUID | str) -> None:
        """Complete a job that was taken."""

    @abstractmethod
    async def reject(
        self,
        job_id: UUID | str,
        requeue: bool = True,
        error_message: str | None = None,
        *,
        retry_delay: float = 0.0,
    ) -> None:
        """Fail a job that was taken: with ``requeue`` it is retried while retries are left, else dead-lettered.

        Without ``requeue`` it is FAILED. ``retry_delay`` is in seconds.
        """

    @abstractmethod
    async def get_job(self, job_id: UUID | str) -> Job | None:
        """Return the job, or None."""

    @abstractmethod
    async def cancel_job(self, job_id: UUID | str, *, running: bool = False) -> bool:
        """Cancel a job that has not started; True only if this call did it. It is then FAILED, "Job cancelled".

        With ``running`` a job that runs is cancelled as well.
        """

    @abstractmethod
    async def get_queue_stats(self, queue_name: str) -> QueueStats:
        """Count the jobs of a queue by state."""

    @abstractmethod
    async def initialize(self) -> None:
        """Prepare the store. Called twice is called once; calling it is optional and only makes faults show earlier."""

    @abstractmethod
    async def close(self) -> None:
        """Release connections. Called twice is called once."""

    async def enqueue_all(self, jobs: Sequence[Job]) -> list[tuple[Job, bool]]:
        """Store all of the jobs or none, in one round trip: each as stored, and whether this call created it."""
        raise self._unsupported("enqueue_all")

    async def get_record(self, job_id: UUID | str) -> JobRecord | None:
        """Return the job with its result and its history of attempts, or None."""
        raise self._unsupported("get_record")

    async def list_jobs(self, job_filter: JobFilter) -> JobPage:
        """Return one page of jobs, the newest first."""
        raise self._unsupported("list_jobs")

    async def get_queue_stats_of(self, queue_name: str, *, created_by: UUID) -> QueueStats:
        """Count the jobs of a queue that one caller has created, by state."""
        raise self._unsupported("get_queue_stats_of")

    async def get_oldest_due_seconds(self) -> float:
        """Return for how many seconds the job that is due longest has waited past its time; 0 where none is due."""
        raise self._unsupported("get_oldest_due_seconds")

    async def requeue_jobs(self, job_filter: JobFilter) -> JobPage:
        """Start FAILED and DEAD_LETTER jobs afresh, in one step of at most the filter's ``limit``.

        Returns those that this call has changed, which may be fewer than there are, and where the next step begins.
        """
        raise self._unsupported("requeue_jobs")

    async def discard_jobs(self, job_filter: JobFilter) -> JobPage:
        """Delete jobs that have ended, in one step of at most the filter's ``limit``, as ``requeue_jobs`` does."""
        raise self._unsupported("discard_jobs")

    async def clock(self) -> datetime:
        """Return the time by which jobs end: aware and in UTC."""
        raise self._unsupported("clock, which requeueing and discarding many jobs goes by")

    def _unsupported(self, operation: str) -> NotSupported:
        return NotSupported(f"{type(self).__name__} does not support {operation}")
