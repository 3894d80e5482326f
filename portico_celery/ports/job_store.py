"""Our port of where jobs live. The row is the job; every method is one atomic step.

The port is synchronous and plural: one I/O thread calls it, with all that waited together. Times and delays are in
seconds and are counted by the store's own clock, never a worker's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from portico_celery.exceptions import NotSupported
from portico_celery.ports.job import Job, JobStatus, QueueStats
from portico_celery.ports.job_reader import JobFilter, JobPage, JobRecord
from portico_celery.ports.schedule_store import ScheduleStore


def _new_token() -> str:
    return str(uuid4())


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A worker asks for a job. With ``adopt``, a job that is not stored yet is stored: as taken or, where its time is
    ahead, as SCHEDULED, and is not taken.

    ``token`` is kept with the lease. Where the answer to a claim was lost, the same claim is made again: a job that
    runs under its token is its own.
    """

    job_id: UUID
    worker: str
    lease_seconds: float
    adopt: Job | None = None
    envelope: Mapping[str, Any] | None = None
    token: str = field(default_factory=_new_token)


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

    It may be repeated where its answer was lost: what has taken effect and still stands is not refused, and changes
    nothing again. With ``expired_only``, the reaper's finish, it is refused while the attempt's lease is alive, and
    when it is repeated.
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
class Postponement:
    """A worker met a job that it has no handler for. ``patience`` is for how long none may have one, in seconds."""

    job_id: UUID
    job_type: str
    worker: str
    patience: float


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


@dataclass(frozen=True, kw_only=True)
class Requeued:
    """One step of a requeue: the knock for each job that starts afresh, and where the next step begins."""

    knocks: tuple[Knock, ...]
    next_cursor: str | None = None


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
    def clock(self) -> datetime:
        """Return the store's own time, by which all jobs are due: aware and in UTC."""

    @abstractmethod
    def insert(self, jobs: Sequence[Job], *, knock_seconds: float) -> list[tuple[Job, bool]]:
        """Store all jobs whose id is new, or none: each as stored, and whether this call created it.

        SCHEDULED where ``scheduled_at`` is ahead of the store's clock, else PENDING and due for the sweep's knock
        in ``knock_seconds``, should the first one be lost.
        """

    @abstractmethod
    def claim(self, claims: Sequence[Claim]) -> list[ClaimedJob | None]:
        """Take each job that may start now: RUNNING, attempt + 1, under a lease. None where it may not.

        A claim that is repeated, by its token, gets the same answer as long as the job runs; its lease begins anew.
        """

    @abstractmethod
    def finish(self, finishes: Sequence[Finish]) -> list[Job | None]:
        """End attempts: each job as it is now, or None where the attempt no longer held it."""

    @abstractmethod
    def postpone(self, postponements: Sequence[Postponement]) -> list[Job | None]:
        """Put back jobs that a worker has no handler for: each as it is now.

        A job that may start now goes on to wait, PENDING or RETRYING as it was, with its attempts and its retries
        untouched, or is a DEAD_LETTER where no worker has had a handler for as long as its patience. A claim and a
        requeue end that time. A dead letter that owes its handler a notice stays due for it, and owes it no longer
        when patience ends, which a claim does not put off: it may be by one that can't tell the handler. None where the
        job is neither, or of another type.
        """

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
    def count_knocked(self, queue_name: str) -> int:
        """Count the jobs of a queue that wait and have been knocked for: as many messages should be under way."""

    @abstractmethod
    def cancel(self, job_id: UUID, *, running: bool = False) -> bool:
        """Cancel a job that has not started or waits for a retry. True only if this call did it.

        With ``running`` a job that runs is cancelled as well: its attempt ends, and has lost its lease.
        """

    @abstractmethod
    def requeue(self, job_filter: JobFilter, *, knock_seconds: float) -> Requeued:
        """Start FAILED and DEAD_LETTER jobs afresh: of those that the filter means, at most its ``limit``.

        One step, the newest first. Each job by compare-and-set: one that somebody else changes meanwhile is left out.
        A step may change fewer than ``limit``, and none at all, and not be the last: that has no ``next_cursor``.
        """

    @abstractmethod
    def discard(self, job_filter: JobFilter) -> JobPage:
        """Delete jobs that have ended, as ``requeue`` starts jobs afresh: those that this step has deleted."""

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
    def stats(self, queue_name: str, *, created_by: UUID | None = None) -> QueueStats:
        """Count the jobs of a queue by state: all of them, or those that one caller has created."""

    @abstractmethod
    def oldest_due_seconds(self) -> float:
        """Return for how many seconds the job that is due longest has waited past its time; 0 where none is due.

        Cheap however many wait: the first entry of an index.
        """

    def schedules(self) -> ScheduleStore:
        """Return where the state of schedules is kept beside the jobs. Raises NotSupported where there is no such."""
        raise NotSupported(f"{type(self).__qualname__} keeps no state of schedules: use one of this package's stores")
