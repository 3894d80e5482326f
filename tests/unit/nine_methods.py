"""A job queue by the letter of Portico's own port: nine methods, and no parameter more."""

from __future__ import annotations

from uuid import UUID

from portico_celery.adapters.job_queue.memory_queue import MemoryJobQueueAdapter
from portico_celery.ports.job import Job, QueueStats
from portico_celery.ports.job_queue import JobQueueAdapter


class PorticosQueue(JobQueueAdapter):
    """Hands everything on to a queue in memory. ``fails`` are queue names whose dequeue fails."""

    def __init__(self) -> None:
        self.inner = MemoryJobQueueAdapter()
        self.fails: set[str] = set()
        #: Each call of dequeue: the queue and the timeout.
        self.dequeues: list[tuple[str, float]] = []

    async def enqueue(self, job: Job) -> Job:
        return await self.inner.enqueue(job)

    async def dequeue(self, queue_name: str, timeout: float = 30) -> Job | None:
        self.dequeues.append((queue_name, timeout))
        if queue_name in self.fails:
            raise ConnectionError(f"{queue_name} is away")
        return await self.inner.dequeue(queue_name, timeout)

    async def acknowledge(self, job_id: UUID | str) -> None:
        await self.inner.acknowledge(job_id)

    async def reject(  # type: ignore[override]  # that is what it is for
        self, job_id: UUID | str, requeue: bool = True, error_message: str | None = None
    ) -> None:
        await self.inner.reject(job_id, requeue, error_message)

    async def get_job(self, job_id: UUID | str) -> Job | None:
        return await self.inner.get_job(job_id)

    async def cancel_job(self, job_id: UUID | str) -> bool:  # type: ignore[override]  # that is what it is for
        return await self.inner.cancel_job(job_id)

    async def get_queue_stats(self, queue_name: str) -> QueueStats:
        return await self.inner.get_queue_stats(queue_name)

    async def initialize(self) -> None:
        await self.inner.initialize()

    async def close(self) -> None:
        await self.inner.close()


class PatientQueue(PorticosQueue):
    """Has our further parameter of ``reject``."""

    async def reject(
        self,
        job_id: UUID | str,
        requeue: bool = True,
        error_message: str | None = None,
        *,
        retry_delay: float = 0.0,
    ) -> None:
        await self.inner.reject(job_id, requeue, error_message, retry_delay=retry_delay)
