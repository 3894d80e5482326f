"""Our port of where jobs live. The row is the job; every method is one atomic step.

The port is synchronous and plural: one I/O thread calls it, with all that waited together. Times and delays are in
seconds and are counted by the store's own clock, never a worker's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from portico_celery.ports.job import Job, JobStatus, QueueStats
from portico_celery.ports.job_reader import JobFilter, JobPage, JobRecord


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A worker asks for a job. With ``adopt``, a job that is not stored yet is stored as taken."""

    job_id: UUID
    worker: str
    lease_seconds: float
    adopt: Job | None = None
    envelope: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class ClaimedJob:
    """A job in a worker's hands. ``attempt`` fences all that the worker writes.

    ``lost_error`` is set where an earlier worker was lost and the handler has not heard of it. Where the job is then
    in DEAD_LETTER there is nothing to run: only to tell the handler.

    ``envelope`` is what a plain Celery client's message carried, kept for every later knock.
    """

    job: Job
    attempt: int
    worker: str
    lost_error: str | None = None
    envelope: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Transition:
    """Where a running job goes next, as decided by the lifecycle. ``delay`` is the wait before a retry."""

    status: JobStatus
    retry_count: int
    delay: float = 0.0
    result_data: Mapping[str, Any] | None = None
    error_message: str | None = None
    traceback: str | None = None
    worker_lost: bool = False


@dataclass(frozen=True, kw_only=True)
class Finish:
    """An attempt has ended. Refused unless the attempt still holds the job.

    With ``expired_only`` it is also refused while the attempt's lease is alive: that is the reaper's finish.
    """

    job_id: UUID
    attempt: int
    transition: Transition
    expired_only: bool = False


@dataclass(frozen=True, kw_only=True)
class Lease:
    """An attempt's hold on its job."""

    job_id: UUID
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Knock:
    """A job that a worker should be told of. ``again`` where one has been told before, and has not come."""

    job: Job
    envelope: Mapping[str, Any] | None = None
    again: bool = False


@dataclass(frozen=True, kw_only=True)
class DueWork:
    """What the sweep found. ``next_due_in`` is when the next row falls due, in seconds; None where none waits."""

    knocks: tuple[Knock, ...]
    expired: tuple[ClaimedJob, ...]
    next_due_in: float | None


#: For how many seconds a job is kept once it has ended, unless the store is told otherwise.
DEFAULT_RESULT_TTL = 7 * 24 * 3600.0


class JobStore(ABC):
    """Keeps jobs. Every method may raise StoreUnavailable (try again) or another StoreError."""

    @abstractmethod
    def initialize(self) -> None:
        """Create or migrate what the store needs. Idempotent. Raises StoreSchemaTooNew."""

    @abstractmethod
    def close(self) -> None:
        """Release connections. Idempotent; a later call opens them again."""

    @abstractmethod
    def insert(self, jobs: Sequence[Job], *, knock_seconds: float) -> list[tuple[Job, bool]]:
        """Store all jobs whose id is new, or none: each as stored, and whether this call created it.

        SCHEDULED where ``scheduled_at`` is ahead of the store's clock, else PENDING and due for the sweep's knock
        in ``knock_seconds``, should the first one be lost.
        """

    @abstractmethod
    def claim(self, claims: Sequence[Claim]) -> list[ClaimedJob | None]:
        """Take each job that may start now: RUNNING, attempt + 1, under a lease. None where it may not."""

    @abstractmethod
    def finish(self, finishes: Sequence[Finish]) -> list[Job | None]:
        """End attempts: each job as it is now, or None where the attempt no longer held it."""

    @abstractmethod
    def settle_loss(self, lease: Lease) -> None:
        """Note that the handler of a dead letter has heard that its worker was lost."""

    @abstractmethod
    def extend(self, leases: Sequence[Lease], *, lease_seconds: float) -> list[bool]:
        """Renew leases: False where the attempt no longer holds its job."""

    @abstractmethod
    def take_due(self, *, limit: int, knock_seconds: float) -> DueWork:
        """Find what is due, move the due time of the rows to knock for, and delete what ended long enough ago.

        The next is ``knock_seconds`` away, doubled by each knock so far, at most an hour.
        """

    @abstractmethod
    def count_pending(self, queue_name: str) -> int:
        """Count the PENDING jobs of a queue. Each has been knocked for: as many messages should be under way."""

    @abstractmethod
    def cancel(self, job_id: UUID) -> bool:
        """Cancel a job that has not started or waits for a retry. True only if this call did it."""

    @abstractmethod
    def requeue(self, job_id: UUID, *, knock_seconds: float) -> Job | None:
        """Start a FAILED or DEAD_LETTER job afresh. None where it is in another state or unknown."""

    @abstractmethod
    def discard(self, job_id: UUID) -> bool:
        """Delete a job that has ended. True only if this call did it."""

    @abstractmethod
    def holder(self, job_id: UUID) -> ClaimedJob | None:
        """Return a RUNNING job with the attempt that holds it, or None."""

    @abstractmethod
    def get(self, job_id: UUID) -> JobRecord | None:
        """Return the job with its result and history, or None."""

    @abstractmethod
    def list_jobs(self, job_filter: JobFilter) -> JobPage:
        """Return one page of jobs, the newest first."""

    @abstractmethod
    def stats(self, queue_name: str) -> QueueStats:
        """Count the jobs of a queue by state."""
