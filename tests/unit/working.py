"""A worker within a test's own event loop: its queue, and handlers that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from portico_celery.adapters.job_queue.memory_queue import MemoryJobQueueAdapter
from portico_celery.kits.job import WorkerManager
from portico_celery.lifecycle import RetryPolicy
from portico_celery.ports.job import Job, JobResult, JobStatus
from portico_celery.ports.job_queue import JobQueueAdapter
from portico_celery.ports.job_store import ClaimedJob

MAIL = "email.send"
#: Long enough for every machine: only what never comes takes it.
PATIENCE = 20.0
AT_ONCE = RetryPolicy(base_delay=0.0)
ENDED = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.DEAD_LETTER})


async def succeed(job: Job) -> JobResult:
    return JobResult(success=True, result_data={"to": job.payload.get("to")})


async def forever(_job: Job) -> JobResult:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


@dataclass
class Handler:
    """Keeps what it is given to do, and what it hears."""

    work: Callable[[Job], Awaitable[JobResult]] = succeed
    job_type: str = MAIL
    started: list[Job] = field(default_factory=list)
    heard: list[tuple[Job, Exception]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    async def handle(self, job: Job) -> JobResult:
        self.started.append(job)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self.work(job)
        finally:
            self.at_once -= 1

    async def on_failure(self, job: Job, error: Exception) -> None:
        self.heard.append((job, error))


def a_job(queue_name: str = "default", **fields: Any) -> Job:
    made = {"id": uuid4(), "queue_name": queue_name, "job_type": MAIL, "payload": {"to": "zsofia"}}
    return Job(**{**made, **fields})


async def until(condition: Callable[[], object]) -> None:
    """Let everybody have a turn until something is so."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  # what is waited for sends no event
            await asyncio.sleep(0.001)


@dataclass
class Workplace:
    """A queue and a worker that takes from it."""

    handler: Handler = field(default_factory=Handler)
    queue: JobQueueAdapter = field(default_factory=lambda: MemoryJobQueueAdapter(retry_policy=AT_ONCE))
    options: dict[str, Any] = field(default_factory=dict)

    def manager(self, **options: Any) -> WorkerManager:
        handlers = {self.handler.job_type: self.handler}
        return WorkerManager(self.queue, handlers, **{"retry_policy": AT_ONCE, **self.options, **options})

    @asynccontextmanager
    async def working(self, **options: Any) -> AsyncIterator[WorkerManager]:
        """A worker that works inside the block."""
        manager = self.manager(**options)
        await manager.start()
        try:
            yield manager
        finally:
            async with asyncio.timeout(PATIENCE):
                await manager.stop(0)

    async def enqueue(self, *jobs: Job) -> list[UUID]:
        return [(await self.queue.enqueue(job)).id for job in jobs or [a_job()]]

    async def stored(self, job_id: UUID) -> Job:
        job = await self.queue.get_job(job_id)
        assert job is not None
        return job

    async def lose_its_worker(self) -> ClaimedJob | None:
        """Take a job as a worker that dies with it."""
        assert isinstance(self.queue, MemoryJobQueueAdapter)
        return await self.queue.take("default", 0)

    async def ended(self, *ids: UUID) -> list[Job]:
        """Wait until the jobs have ended; as they are then."""
        return [await self.reaches(job_id, ENDED) for job_id in ids]

    async def reaches(self, job_id: UUID, statuses: Collection[JobStatus]) -> Job:
        """Wait until a job is in one of the states; as it is then."""
        async with asyncio.timeout(PATIENCE):
            while (job := await self.stored(job_id)).status not in statuses:  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.001)
        return job

    async def run(self, *jobs: Job, **options: Any) -> list[Job]:
        """Enqueue jobs, and have them led to their end; as they are then."""
        ids = await self.enqueue(*jobs)
        async with self.working(**options):
            return await self.ended(*ids)
