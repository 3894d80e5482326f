"""A small job creator and reader, written against our ports alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from portico_celery.ports.job import Job, QueueStats
from portico_celery.ports.job_creator import JobCreator
from portico_celery.ports.job_reader import JobFilter, JobPage, JobReader, JobRecord

CREATED_AT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


class WriteOnlyJobs(JobCreator):
    """Creates jobs in a dict. Raises ``error`` instead, where one is set."""

    def __init__(self, *, needs_event_loop: bool = False) -> None:
        self.needs_event_loop = needs_event_loop
        self.records: dict[UUID, JobRecord] = {}
        self.error: Exception | None = None

    async def create_job(
        self,
        job_type: str,
        payload: dict[str, Any],
        queue_name: str = "default",
        priority: int = 0,
        **kwargs: Any,
    ) -> Job:
        if self.error is not None:
            raise self.error
        job = Job(
            id=uuid4(),
            job_type=job_type,
            payload=payload,
            queue_name=queue_name,
            priority=priority,
            created_at=CREATED_AT,
            **kwargs,
        )
        self.records[job.id] = JobRecord(job=job)
        return job

    @property
    def jobs(self) -> list[Job]:
        return [record.job for record in self.records.values()]


class JobsInMemory(WriteOnlyJobs, JobReader):
    """Shows what it created, too."""

    async def get_job(self, job_id: UUID | str) -> Job | None:
        record = await self.get_record(job_id)
        return None if record is None else record.job

    async def get_record(self, job_id: UUID | str) -> JobRecord | None:
        if self.error is not None:
            raise self.error
        return self.records.get(UUID(str(job_id)))

    async def list_jobs(self, job_filter: JobFilter) -> JobPage:
        raise NotImplementedError

    async def get_queue_stats(self, queue_name: str, *, created_by: UUID | None = None) -> QueueStats:
        raise NotImplementedError

    async def get_oldest_due_seconds(self) -> float:
        raise NotImplementedError
