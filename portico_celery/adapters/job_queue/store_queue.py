"""What a job queue does by its job store alone, whoever hands out the jobs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from portico_celery.exceptions import ResourceNotFoundError, StaleAttempt, ValidationError
from portico_celery.lifecycle import REQUEUABLE, Failed, Outcome, Succeeded, decide
from portico_celery.ports.job import Job, JobStatus, QueueStats
from portico_celery.ports.job_queue import JobQueueAdapter
from portico_celery.ports.job_reader import JobFilter, JobPage, JobRecord
from portico_celery.ports.job_store import ClaimedJob, Finish, JobStore, Lease, Postponement, Transition
from portico_celery.ports.schedule_store import ScheduleAccess, ScheduleStore

T = TypeVar("T")


class StoreJobQueue(JobQueueAdapter, ScheduleAccess):
    """Creates, settles and looks up jobs in a job store.

    An adapter says how the store is reached, and how whoever waits for a job hears of it.
    """

    needs_event_loop = False

    def __init__(self) -> None:
        #: The attempts of jobs that were dequeued here and are not settled: who settles one means that attempt.
        self._dequeued: dict[UUID, int] = {}

    @abstractmethod
    async def _read(self, call: Callable[[JobStore], T]) -> T:
        """Make a call of the store that may take its time: a look-up, or a step over many jobs."""

    @abstractmethod
    async def _write(self, call: Callable[[JobStore], T]) -> T:
        """Make a call of the store."""

    @abstractmethod
    async def _insert(self, jobs: Sequence[Job]) -> list[tuple[Job, bool]]:
        """Store all of the jobs or none."""

    @abstractmethod
    async def _finish(self, finish: Finish) -> Job | None:
        """End an attempt."""

    @abstractmethod
    def _announce(self, job: Job, *, delay: float = 0.0, envelope: Mapping[str, Any] | None = None) -> None:
        """Tell whoever waits of a job that may start in ``delay`` seconds or, where it is SCHEDULED, at its time."""

    @property
    @abstractmethod
    def _knock_seconds(self) -> float:
        """In how many seconds a job is announced again that nobody has taken."""

    async def enqueue(self, job: Job) -> Job:
        """Store the job and make it available. See the port for jobs that exist."""
        stored, created = (await self.enqueue_all([job]))[0]
        if not created and job.status in REQUEUABLE:
            page = await self.requeue_jobs(JobFilter(job_ids=(job.id,)))
            return page.jobs[0] if page.jobs else stored
        return stored

    async def enqueue_all(self, jobs: Sequence[Job]) -> list[tuple[Job, bool]]:
        """Store all of the jobs or none, in one round trip."""
        stored = await self._insert(jobs)
        for job, created in stored:
            if created:
                self._announce(job)
        return stored

    async def acknowledge(self, job_id: UUID | str) -> None:
        """Complete a running job. Raises ResourceNotFoundError, or StaleAttempt where it is not running."""
        await self._conclude(as_uuid(job_id), Succeeded(result_data={}), retry_delay=0.0)

    async def reject(
        self,
        job_id: UUID | str,
        requeue: bool = True,
        error_message: str | None = None,
        *,
        retry_delay: float = 0.0,
    ) -> None:
        """Fail a running job. Raises ResourceNotFoundError, or StaleAttempt where it is not running."""
        outcome = Failed(retryable=requeue, error_message=error_message)
        await self._conclude(as_uuid(job_id), outcome, retry_delay=retry_delay)

    async def _conclude(self, job_id: UUID, outcome: Outcome, *, retry_delay: float) -> None:
        held = await self._write(lambda store: store.holder(job_id))
        if held is not None and held.attempt != self._dequeued.get(job_id, held.attempt):
            raise StaleAttempt(f"job {job_id} was taken up by somebody else meanwhile, whose it is to settle")
        self._dequeued.pop(job_id, None)
        if held is None:
            if await self.get_job(job_id) is None:
                raise ResourceNotFoundError(f"there is no job {job_id}")
            raise StaleAttempt(f"job {job_id} is not running: nothing to acknowledge or reject")
        if not await self.finish(held, decide(held.job, outcome, retry_delay=retry_delay)):
            raise StaleAttempt(f"job {job_id} was settled by somebody else meanwhile")

    async def finish(self, claimed: ClaimedJob, transition: Transition) -> bool:
        """End an attempt as decided. False where it no longer held its job."""
        finish = Finish(job_id=claimed.job.id, attempt=claimed.attempt, transition=transition)
        job = await self._finish(finish)
        if job is not None and job.status is JobStatus.RETRYING:
            self._announce(job, delay=transition.delay, envelope=claimed.envelope)
        return job is not None

    def _handed_out(self, claimed: ClaimedJob) -> Job:
        self._dequeued[claimed.job.id] = claimed.attempt
        return claimed.job

    async def _leave_to_its_handler(self, claimed: ClaimedJob, patience: float) -> None:
        """Put back a dead letter whose handler is still to hear why: whoever dequeues can't tell it."""
        postponement = Postponement(
            job_id=claimed.job.id, job_type=claimed.job.job_type, worker=claimed.worker, patience=patience
        )
        await self._write(lambda store: store.postpone([postponement]))

    async def settle_loss(self, claimed: ClaimedJob) -> None:
        """Note that the handler of a dead letter has heard that its worker was lost."""
        lease = lease_of(claimed)
        await self._write(lambda store: store.settle_loss(lease))

    async def get_job(self, job_id: UUID | str) -> Job | None:
        """Return the job, or None."""
        record = await self.get_record(job_id)
        return None if record is None else record.job

    async def get_record(self, job_id: UUID | str) -> JobRecord | None:
        """Return the job with its result and its history of attempts, or None."""
        wanted = as_uuid(job_id)
        return await self._read(lambda store: store.get(wanted))

    async def list_jobs(self, job_filter: JobFilter) -> JobPage:
        """Return one page of jobs, the newest first."""
        return await self._read(lambda store: store.list_jobs(job_filter))

    async def get_queue_stats(self, queue_name: str) -> QueueStats:
        """Count the jobs of a queue by state."""
        return await self._read(lambda store: store.stats(queue_name))

    async def get_queue_stats_of(self, queue_name: str, *, created_by: UUID) -> QueueStats:
        """Count the jobs of a queue that one caller has created, by state."""
        return await self._read(lambda store: store.stats(queue_name, created_by=created_by))

    async def get_oldest_due_seconds(self) -> float:
        """Return for how many seconds the job that is due longest has waited past its time; 0 where none is due."""
        return await self._read(lambda store: store.oldest_due_seconds())

    async def cancel_job(self, job_id: UUID | str, *, running: bool = False) -> bool:
        """Cancel a job that has not started or waits for a retry; True only if this call did it.

        With ``running`` a job that runs is cancelled as well: its worker learns of it when it next renews its lease.
        """
        wanted = as_uuid(job_id)
        return await self._write(lambda store: store.cancel(wanted, running=running))

    async def requeue_jobs(self, job_filter: JobFilter) -> JobPage:
        """Start FAILED and DEAD_LETTER jobs afresh, in one step, and announce them at once."""
        step = await self._change(
            job_filter, lambda store: store.requeue(job_filter, knock_seconds=self._knock_seconds)
        )
        for knock in step.knocks:
            self._announce(knock.job, envelope=knock.envelope)
        return JobPage(jobs=tuple(knock.job for knock in step.knocks), next_cursor=step.next_cursor)

    async def discard_jobs(self, job_filter: JobFilter) -> JobPage:
        """Delete jobs that have ended, in one step."""
        return await self._change(job_filter, lambda store: store.discard(job_filter))

    async def _change(self, job_filter: JobFilter, call: Callable[[JobStore], T]) -> T:
        # To find jobs by other conditions than their ids may be slow: others' creates and claims must not wait for it.
        return await (self._read(call) if job_filter.job_ids is None else self._write(call))

    async def clock(self) -> datetime:
        """Return the store's time."""
        return await self._read(lambda store: store.clock())

    async def schedules(self, call: Callable[[ScheduleStore], T]) -> T:
        """Make a call of the store's state of schedules."""
        return await self._write(lambda store: call(store.schedules()))

    async def initialize(self) -> None:
        """Create or migrate the store's tables. Calling it is optional: it makes faults show earlier."""
        await self._write(lambda store: store.initialize())


def as_uuid(value: UUID | str) -> UUID:
    """Return a job's id given as such or as its text. Raises ValidationError."""
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise ValidationError(f"job_id must be a UUID, not {value!r}") from None


def lease_of(claimed: ClaimedJob) -> Lease:
    """Return the hold of a claim on its job."""
    return Lease(job_id=claimed.job.id, attempt=claimed.attempt)
