"""The service that applications create and look up jobs with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from portico_celery.exceptions import ValidationError
from portico_celery.kits.job.handler_registry import HandlerRegistry
from portico_celery.kits.job.new_job import as_uuid, new_job, valid_queue_name
from portico_celery.ports.job import Job, QueueStats
from portico_celery.ports.job_admin import JobAdmin
from portico_celery.ports.job_creator import JobCreator
from portico_celery.ports.job_queue import JobQueueAdapter
from portico_celery.ports.job_reader import JobFilter, JobPage, JobReader, JobRecord

DEFAULT_QUEUE = "default"
MAX_JOBS_AT_ONCE = 10_000
DEFAULT_MAX_PAYLOAD_BYTES = 256 * 1024
MAX_PAGE_SIZE = 1_000


class JobService(JobCreator, JobReader, JobAdmin):
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
            raise type(error)(f"job {index}: {error}") from error

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
        """Return one page of jobs, the newest first. Raises ValidationError for a limit out of bounds."""
        if not 1 <= job_filter.limit <= MAX_PAGE_SIZE:
            raise ValidationError(f"limit must be from 1 to {MAX_PAGE_SIZE}, not {job_filter.limit!r}")
        return await self._job_queue.list_jobs(job_filter)

    async def get_queue_stats(self, queue_name: str) -> QueueStats:
        """Count the jobs of a queue by state."""
        return await self._job_queue.get_queue_stats(valid_queue_name(queue_name))

    async def cancel_job(self, job_id: UUID | str) -> bool:
        """Cancel a job that has not started; True only if this call did it."""
        return await self._job_queue.cancel_job(as_uuid(job_id, "job_id"))

    async def requeue_job(self, job_id: UUID | str) -> bool:
        """Start a FAILED or DEAD_LETTER job afresh; True only if this call did it."""
        return await self._job_queue.requeue_job(as_uuid(job_id, "job_id"))

    async def discard_job(self, job_id: UUID | str) -> bool:
        """Delete a job that has ended; True only if this call did it."""
        return await self._job_queue.discard_job(as_uuid(job_id, "job_id"))
