"""The service's face for synchronous callers: Django and Flask views, plain Celery tasks, scripts."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from portico_celery.event_loop import wait
from portico_celery.exceptions import ValidationError
from portico_celery.kits.job.job_service import DEFAULT_QUEUE, JobService
from portico_celery.ports.job import Job, QueueStats
from portico_celery.ports.job_reader import JobFilter, JobPage, JobRecord

T = TypeVar("T")


class SyncJobService:
    """Every method is that of JobService, waited for. In a thread that runs an event loop it raises RuntimeError."""

    def __init__(self, service: JobService) -> None:
        self._service = service

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return wait(coroutine, needs_event_loop=self._service.needs_event_loop)

    def create_job(
        self,
        job_type: str,
        payload: dict[str, Any],
        queue_name: str = DEFAULT_QUEUE,
        priority: int = 0,
        **kwargs: Any,
    ) -> Job:
        """Create a job; when this returns it is durable."""
        return self._wait(self._service.create_job(job_type, payload, queue_name, priority, **kwargs))

    def create_once(
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
        return self._wait(self._service.create_once(job_type, payload, queue_name, priority, job_id=job_id, **kwargs))

    def create_jobs(self, jobs: Iterable[Mapping[str, Any]]) -> list[Job]:
        """Create many jobs in one store round trip, all or none."""
        return self._wait(self._service.create_jobs(jobs))

    def create_each(self, jobs: Sequence[Mapping[str, Any]]) -> list[Job | ValidationError]:
        """Create what can be created, in one store round trip: for each item the job, or what is wrong with it."""
        return self._wait(self._service.create_each(jobs))

    def get_job(self, job_id: UUID | str) -> Job | None:
        """Return the job, or None."""
        return self._wait(self._service.get_job(job_id))

    def get_record(self, job_id: UUID | str) -> JobRecord | None:
        """Return the job with its result and its history of attempts, or None."""
        return self._wait(self._service.get_record(job_id))

    def list_jobs(self, job_filter: JobFilter) -> JobPage:
        """Return one page of jobs, the newest first."""
        return self._wait(self._service.list_jobs(job_filter))

    def get_queue_stats(self, queue_name: str, *, created_by: UUID | None = None) -> QueueStats:
        """Count the jobs of a queue by state: all of them, or those that one caller has created."""
        return self._wait(self._service.get_queue_stats(queue_name, created_by=created_by))

    def get_oldest_due_seconds(self) -> float:
        """Return for how many seconds the job that is due longest has waited past its time; 0 where none is due."""
        return self._wait(self._service.get_oldest_due_seconds())

    def cancel_job(self, job_id: UUID | str, *, running: bool = False) -> bool:
        """Cancel a job that has not started; True only if this call did it. With ``running`` also one that runs."""
        return self._wait(self._service.cancel_job(job_id, running=running))

    def requeue_job(self, job_id: UUID | str) -> bool:
        """Start a FAILED or DEAD_LETTER job afresh; True only if this call did it."""
        return self._wait(self._service.requeue_job(job_id))

    def requeue_jobs(self, job_filter: JobFilter, limit: int | None = None, per_second: float | None = None) -> int:
        """Start FAILED and DEAD_LETTER jobs afresh, and return how many. See JobAdmin."""
        return self._wait(self._service.requeue_jobs(job_filter, limit, per_second))

    def discard_job(self, job_id: UUID | str) -> bool:
        """Delete a job that has ended; True only if this call did it."""
        return self._wait(self._service.discard_job(job_id))

    def discard_jobs(self, job_filter: JobFilter, limit: int | None = None, per_second: float | None = None) -> int:
        """Delete jobs that have ended, and return how many. See JobAdmin."""
        return self._wait(self._service.discard_jobs(job_filter, limit, per_second))
