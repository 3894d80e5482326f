"""A job queue as somebody else might write one: by the port alone, and without brokers or workers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from portico_celery.adapters.job_store.memory_store import MemoryJobStore
from portico_celery.ports.job import Job, JobStatus, QueueStats
from portico_celery.ports.job_queue import JobQueueAdapter
from portico_celery.ports.job_reader import JobFilter, JobPage, JobRecord

KNOCK = 30.0


class NineMethods(JobQueueAdapter):
    """Has what the port demands, for creating and looking up. With ``needs_event_loop`` it really does."""

    def __init__(self, *, needs_event_loop: bool = False) -> None:
        self.needs_event_loop = needs_event_loop
        self.store = MemoryJobStore()

    async def _turn(self) -> None:
        if self.needs_event_loop:
            await asyncio.sleep(0)

    async def enqueue(self, job: Job) -> Job:
        await self._turn()
        return self.store.insert([job], knock_seconds=KNOCK)[0][0]

    async def dequeue(self, queue_name: str, timeout: float = 30) -> Job | None:
        raise NotImplementedError

    async def acknowledge(self, job_id: UUID | str) -> None:
        raise NotImplementedError

    async def reject(
        self,
        job_id: UUID | str,
        requeue: bool = True,
        error_message: str | None = None,
        *,
        retry_delay: float = 0.0,
    ) -> None:
        raise NotImplementedError

    async def get_job(self, job_id: UUID | str) -> Job | None:
        await self._turn()
        record = self.store.get(UUID(str(job_id)))
        return None if record is None else record.job

    async def cancel_job(self, job_id: UUID | str, *, running: bool = False) -> bool:
        await self._turn()
        return self.store.cancel(UUID(str(job_id)), running=running)

    async def get_queue_stats(self, queue_name: str) -> QueueStats:
        await self._turn()
        return self.store.stats(queue_name)

    async def initialize(self) -> None: ...

    async def close(self) -> None: ...


class QueueInMemory(NineMethods):
    """Has our own methods, too. ``batches`` is how often it was asked to store many."""

    batches = 0

    async def enqueue_all(self, jobs: Sequence[Job]) -> list[tuple[Job, bool]]:
        await self._turn()
        self.batches += 1
        return self.store.insert(jobs, knock_seconds=KNOCK)

    async def get_record(self, job_id: UUID | str) -> JobRecord | None:
        await self._turn()
        return self.store.get(UUID(str(job_id)))

    async def get_queue_stats_of(self, queue_name: str, *, created_by: UUID) -> QueueStats:
        await self._turn()
        return self.store.stats(queue_name, created_by=created_by)

    async def list_jobs(self, job_filter: JobFilter) -> JobPage:
        await self._turn()
        return self.store.list_jobs(job_filter)

    async def get_oldest_due_seconds(self) -> float:
        await self._turn()
        return self.store.oldest_due_seconds()

    async def requeue_jobs(self, job_filter: JobFilter) -> JobPage:
        await self._turn()
        step = self.store.requeue(job_filter, knock_seconds=KNOCK)
        return JobPage(jobs=tuple(knock.job for knock in step.knocks), next_cursor=step.next_cursor)

    async def discard_jobs(self, job_filter: JobFilter) -> JobPage:
        await self._turn()
        return self.store.discard(job_filter)

    async def clock(self) -> datetime:
        await self._turn()
        return self.store.clock()

    @property
    def jobs(self) -> list[Job]:
        return list(self.store.list_jobs(JobFilter(limit=1_000)).jobs)

    def waits(self, job_id: UUID) -> bool:
        record = self.store.get(job_id)
        return record is not None and record.job.status is JobStatus.PENDING
