"""The JobQueueAdapter over a job store and Celery: the row is the job, the message a knock."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from portico_celery.adapters.celery.process_io import ProcessIO, ProcessIOProvider
from portico_celery.event_loop import AwaitableFuture
from portico_celery.exceptions import NotSupported, ResourceNotFoundError, StaleAttempt, ValidationError
from portico_celery.lifecycle import Failed, Outcome, Succeeded, decide
from portico_celery.ports.job import Job, JobStatus, QueueStats
from portico_celery.ports.job_queue import JobQueueAdapter
from portico_celery.ports.job_reader import JobFilter, JobPage, JobRecord
from portico_celery.ports.job_store import Finish, Knock

_MOST_LISTED = 1_000


class CeleryJobQueueAdapter(JobQueueAdapter):
    """Creates and settles jobs in the store, and knocks for them over Celery's broker.

    Jobs are taken by Celery workers; ``dequeue`` is not supported.
    """

    needs_event_loop = False

    def __init__(self, io: ProcessIOProvider) -> None:
        self._provider = io

    @property
    def _io(self) -> ProcessIO:
        return self._provider.get()

    async def enqueue(self, job: Job) -> Job:
        """Store the job, then knock for it in the background. See the port for jobs that exist."""
        stored, created = (await self.enqueue_all([job]))[0]
        if not created and job.status in (JobStatus.FAILED, JobStatus.DEAD_LETTER):
            return await self._start_afresh(job.id) or stored
        return stored

    async def enqueue_all(self, jobs: Sequence[Job]) -> list[tuple[Job, bool]]:
        """Store all of the jobs or none, in one round trip."""
        io = self._io
        stored = await AwaitableFuture(io.insert(jobs))
        for job, created in stored:
            if created and job.status is JobStatus.PENDING:
                io.knock(Knock(job=job))
        return stored

    async def dequeue(self, queue_name: str, timeout: float = 30) -> Job | None:  # noqa: ARG002  # the port's
        """Not supported: jobs are run by Celery workers."""
        raise NotSupported(
            f"CeleryJobQueueAdapter does not hand out jobs of {queue_name!r} one by one: run a Celery worker "
            "(celery -A your_app worker), which runs the registered handlers"
        )

    async def acknowledge(self, job_id: UUID | str) -> None:
        """Complete a running job. Raises ResourceNotFoundError, or StaleAttempt where it is not running."""
        await self._conclude(_as_uuid(job_id), Succeeded(result_data={}), retry_delay=0.0)

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
        await self._conclude(_as_uuid(job_id), outcome, retry_delay=retry_delay)

    async def _conclude(self, job_id: UUID, outcome: Outcome, *, retry_delay: float) -> None:
        held = await AwaitableFuture(self._io.writes.call(lambda store: store.holder(job_id)))
        if held is None:
            if await self.get_job(job_id) is None:
                raise ResourceNotFoundError(f"there is no job {job_id}")
            raise StaleAttempt(f"job {job_id} is not running: nothing to acknowledge or reject")
        transition = decide(held.job, outcome, retry_delay=retry_delay)
        finish = Finish(job_id=job_id, attempt=held.attempt, transition=transition)
        (job,) = await AwaitableFuture(self._io.finish(finish))
        if job is None:
            raise StaleAttempt(f"job {job_id} was settled by somebody else meanwhile")
        if job.status is JobStatus.RETRYING and retry_delay <= 0:
            self._io.knock(Knock(job=job, envelope=held.envelope))

    async def get_job(self, job_id: UUID | str) -> Job | None:
        """Return the job, or None."""
        record = await self.get_record(job_id)
        return None if record is None else record.job

    async def get_record(self, job_id: UUID | str) -> JobRecord | None:
        """Return the job with its result and its history of attempts, or None."""
        wanted = _as_uuid(job_id)
        return await AwaitableFuture(self._io.reads.call(lambda store: store.get(wanted)))

    async def list_jobs(self, job_filter: JobFilter) -> JobPage:
        """Return one page of jobs, the newest first."""
        if not 1 <= job_filter.limit <= _MOST_LISTED:
            raise ValidationError(f"limit must be from 1 to {_MOST_LISTED}, not {job_filter.limit}")
        return await AwaitableFuture(self._io.reads.call(lambda store: store.list_jobs(job_filter)))

    async def get_queue_stats(self, queue_name: str) -> QueueStats:
        """Count the jobs of a queue by state."""
        return await AwaitableFuture(self._io.reads.call(lambda store: store.stats(queue_name)))

    async def cancel_job(self, job_id: UUID | str) -> bool:
        """Cancel a job that has not started or waits for a retry; True only if this call did it."""
        wanted = _as_uuid(job_id)
        return await AwaitableFuture(self._io.writes.call(lambda store: store.cancel(wanted)))

    async def requeue_job(self, job_id: UUID | str) -> bool:
        """Start a FAILED or DEAD_LETTER job afresh; True only if this call did it."""
        return await self._start_afresh(_as_uuid(job_id)) is not None

    async def _start_afresh(self, job_id: UUID) -> Job | None:
        # Due at once: the sweep knocks, and knows what a plain client's message carried.
        return await AwaitableFuture(self._io.writes.call(lambda store: store.requeue(job_id, knock_seconds=0.0)))

    async def discard_job(self, job_id: UUID | str) -> bool:
        """Delete a job that has ended; True only if this call did it."""
        wanted = _as_uuid(job_id)
        return await AwaitableFuture(self._io.writes.call(lambda store: store.discard(wanted)))

    async def initialize(self) -> None:
        """Create or migrate the store's tables. Calling it is optional: it makes faults show earlier."""
        await AwaitableFuture(self._io.writes.call(lambda store: store.initialize()))

    async def close(self) -> None:
        """Flush knocks and release this process's connections; the next use opens them again."""
        self._provider.close()


def _as_uuid(value: UUID | str) -> UUID:
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise ValidationError(f"job_id must be a UUID, not {value!r}") from None
