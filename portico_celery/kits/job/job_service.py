"""The service that applications create and look up jobs with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from portico_celery.exceptions import NotSupported, ValidationError
from portico_celery.kits.job.bulk_change import BulkChange, Pace, Step, meant
from portico_celery.kits.job.handler_registry import HandlerRegistry
from portico_celery.kits.job.new_job import as_uuid, new_job, valid_queue_name
from portico_celery.ports.job import Job, QueueStats
from portico_celery.ports.job_admin import JobAdmin
from portico_celery.ports.job_creator import OnceJobCreator
from portico_celery.ports.job_queue import JobQueueAdapter
from portico_celery.ports.job_reader import JobFilter, JobPage, JobReader, JobRecord
from portico_celery.ports.schedule_store import ScheduleAccess, ScheduleStore

T = TypeVar("T")

DEFAULT_QUEUE = "default"
MAX_JOBS_AT_ONCE = 10_000
DEFAULT_MAX_PAYLOAD_BYTES = 256 * 1024


class JobService(OnceJobCreator, JobReader, JobAdmin, ScheduleAccess):
    """Creates jobs, looks them up and cancels them, over any JobQueueAdapter.

    With ``registry`` it refuses job types nobody has registered or declared, and a job created without a queue goes
    to the queue that its type was registered with.
    """

    def __init__(
        self,
        job_queue: JobQueueAdapter,
        *,
        registry: HandlerRegistry | None = None,
        max_payload_bytes: int = DEFAULT_MAX_PAYLOAD_BYTES,
    ) -> None:
        self._job_queue = job_queue
        self._registry = registry
        self._max_payload_bytes = max_payload_bytes
        self.needs_event_loop = getattr(job_queue, "needs_event_loop", True)

    async def create_job(
        self,
        job_type: str,
        payload: dict[str, Any],
        queue_name: str = DEFAULT_QUEUE,
        priority: int = 0,
        **kwargs: Any,
    ) -> Job:
        """Create a job; when this returns it is durable. See JobCreator for the keywords and the errors."""
        return await self._job_queue.enqueue(self._new_job(job_type, payload, queue_name, priority, kwargs))

    def check_job(self, **arguments: Any) -> None:
        """Raise ValidationError where ``create_job`` would refuse these arguments; nothing is stored."""
        rest = dict(arguments)
        self._new_job(
            rest.pop("job_type"),
            rest.pop("payload"),
            rest.pop("queue_name", DEFAULT_QUEUE),
            rest.pop("priority", 0),
            rest,
        )

    async def create_once(
        self,
        job_type: str,
        payload: dict[str, Any],
        queue_name: str = DEFAULT_QUEUE,
        priority: int = 0,
        *,
        job_id: UUID | str,
        **kwargs: Any,
    ) -> tuple[Job, bool]:
        """Create the job of this id if there is none: the stored job, and whether this call created it."""
        job = self._new_job(job_type, payload, queue_name, priority, {**kwargs, "job_id": job_id})
        return (await self._job_queue.enqueue_all([job]))[0]

    async def create_jobs(self, jobs: Iterable[Mapping[str, Any]]) -> list[Job]:
        """Create many jobs in one store round trip, all or none.

        Each item holds the keyword arguments of one ``create_job`` call. A fault in any raises ValidationError that
        names the item, and nothing is stored.
        """
        built = [self._numbered(index, arguments) for index, arguments in enumerate(jobs)]
        if not built:
            return []
        if len(built) > MAX_JOBS_AT_ONCE:
            raise ValidationError(f"{len(built):,} jobs are too many for one step: pass at most {MAX_JOBS_AT_ONCE:,}")
        return [job for job, _created in await self._job_queue.enqueue_all(built)]

    async def create_each(self, jobs: Sequence[Mapping[str, Any]]) -> list[Job | ValidationError]:
        """Create what can be created, in one store round trip: for each item the job, or what is wrong with it."""
        outcomes = [self._built_or_refused(index, arguments) for index, arguments in enumerate(jobs)]
        built = [one for one in outcomes if isinstance(one, Job)]
        if len(built) > MAX_JOBS_AT_ONCE:
            raise ValidationError(f"{len(built):,} jobs are too many for one step: pass at most {MAX_JOBS_AT_ONCE:,}")
        stored = iter(await self._job_queue.enqueue_all(built) if built else [])
        return [next(stored)[0] if isinstance(one, Job) else one for one in outcomes]

    def _built_or_refused(self, index: int, arguments: Mapping[str, Any]) -> Job | ValidationError:
        try:
            return self._numbered(index, arguments)
        except ValidationError as error:
            return error

    def _numbered(self, index: int, arguments: Mapping[str, Any]) -> Job:
        if not isinstance(arguments, Mapping):
            raise ValidationError(f"job {index}: it must be a mapping of create_job's arguments, not {arguments!r:.60}")
        rest = dict(arguments)
        try:
            job_type, payload = rest.pop("job_type"), rest.pop("payload")
        except KeyError as missing:
            raise ValidationError(f"job {index}: {missing.args[0]} is missing") from None
        queue_name, priority = rest.pop("queue_name", DEFAULT_QUEUE), rest.pop("priority", 0)
        try:
            return self._new_job(job_type, payload, queue_name, priority, rest)
        except ValidationError as error:
            raise type(error)(f"job {index}: {error}", argument=error.argument) from error

    def _new_job(
        self, job_type: str, payload: dict[str, Any], queue_name: str, priority: int, options: Mapping[str, Any]
    ) -> Job:
        if self._registry is not None:
            declared = self._registry.get(job_type).queue_name
            queue_name = declared if declared and queue_name == DEFAULT_QUEUE else queue_name
        return new_job(job_type, payload, queue_name, priority, options, max_payload_bytes=self._max_payload_bytes)

    async def get_job(self, job_id: UUID | str) -> Job | None:
        """Return the job, or None. Raises ValidationError for an id that is not a UUID."""
        return await self._job_queue.get_job(as_uuid(job_id, "job_id"))

    async def get_record(self, job_id: UUID | str) -> JobRecord | None:
        """Return the job with its result and its history of attempts, or None."""
        return await self._job_queue.get_record(as_uuid(job_id, "job_id"))

    async def list_jobs(self, job_filter: JobFilter) -> JobPage:
        """Return one page of jobs, the newest first."""
        return await self._job_queue.list_jobs(job_filter)

    async def get_queue_stats(self, queue_name: str, *, created_by: UUID | None = None) -> QueueStats:
        """Count the jobs of a queue by state: all of them, or those that one caller has created."""
        wanted = valid_queue_name(queue_name)
        if created_by is not None:
            return await self._job_queue.get_queue_stats_of(wanted, created_by=created_by)
        return await self._job_queue.get_queue_stats(wanted)

    async def get_oldest_due_seconds(self) -> float:
        """Return for how many seconds the job that is due longest has waited past its time; 0 where none is due."""
        return await self._job_queue.get_oldest_due_seconds()

    async def cancel_job(self, job_id: UUID | str, *, running: bool = False) -> bool:
        """Cancel a job that has not started; True only if this call did it. With ``running`` also one that runs."""
        wanted = as_uuid(job_id, "job_id")
        if running:
            return await self._job_queue.cancel_job(wanted, running=True)
        # An adapter by Portico's own port has no such keyword.
        return await self._job_queue.cancel_job(wanted)

    async def requeue_job(self, job_id: UUID | str) -> bool:
        """Start a FAILED or DEAD_LETTER job afresh; True only if this call did it."""
        page = await self._job_queue.requeue_jobs(JobFilter(job_ids=(as_uuid(job_id, "job_id"),)))
        return bool(page.jobs)

    async def requeue_jobs(
        self, job_filter: JobFilter, limit: int | None = None, per_second: float | None = None
    ) -> int:
        """Start FAILED and DEAD_LETTER jobs afresh, and return how many. See JobAdmin."""
        pace = Pace(limit=limit, per_second=per_second)
        return await self._change("requeued", self._job_queue.requeue_jobs, job_filter, pace)

    async def discard_job(self, job_id: UUID | str) -> bool:
        """Delete a job that has ended; True only if this call did it."""
        page = await self._job_queue.discard_jobs(JobFilter(job_ids=(as_uuid(job_id, "job_id"),)))
        return bool(page.jobs)

    async def discard_jobs(
        self, job_filter: JobFilter, limit: int | None = None, per_second: float | None = None
    ) -> int:
        """Delete jobs that have ended, and return how many. See JobAdmin."""
        pace = Pace(limit=limit, per_second=per_second)
        return await self._change("discarded", self._job_queue.discard_jobs, job_filter, pace)

    async def _change(self, past: str, step: Step, job_filter: JobFilter, pace: Pace) -> int:
        wanted = meant(job_filter, await self._job_queue.clock())
        return await BulkChange(step=step, past=past, job_filter=wanted, pace=pace).run()

    async def schedules(self, call: Callable[[ScheduleStore], T]) -> T:
        """Make a call of the state of schedules that is kept beside the jobs."""
        if not isinstance(self._job_queue, ScheduleAccess):
            raise NotSupported(f"{type(self._job_queue).__qualname__} keeps no state of schedules")
        return await self._job_queue.schedules(call)
