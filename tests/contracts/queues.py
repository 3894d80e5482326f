"""The job queues under test, each with a queue name of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID, uuid4

from portico_celery.adapters.job_queue.memory_queue import MemoryJobQueueAdapter
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_queue import JobQueueAdapter
from tests.contracts.queue_features import MEMORY, Features

T = TypeVar("T")

#: Long enough for every machine: only a job that is lost takes it.
PATIENCE = 20.0
#: For how long a job is looked for that must not come (seconds).
A_MOMENT = 0.2


@dataclass(kw_only=True)
class QueueUnderTest:
    """An adapter, an event loop to call it in, and the calls that most tests make."""

    adapter: JobQueueAdapter
    features: Features
    loop: asyncio.Runner
    #: Returns when whatever has been announced can be taken.
    settled: Callable[[], object] = lambda: None
    #: Opens the same queue once more, where it can be shared.
    another: Callable[[], JobQueueAdapter] | None = None
    name: str = field(default_factory=lambda: f"portico-test-{uuid4().hex}")

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(coroutine)

    def job(self, **fields: Any) -> Job:
        """Make a job, which is not enqueued yet."""
        made = {"id": uuid4(), "queue_name": self.name, "job_type": "email.send", "payload": {"to": "zsofia"}}
        return Job(**{**made, **fields})

    def enqueue(self, job: Job) -> Job:
        stored = self.run(self.adapter.enqueue(job))
        self.settled()
        return stored

    def enqueued(self, **fields: Any) -> Job:
        """Enqueue a new job."""
        return self.enqueue(self.job(**fields))

    def dequeue(self, timeout: float = PATIENCE) -> Job | None:
        return self.run(self.adapter.dequeue(self.name, timeout))

    def take(self) -> Job:
        """Take a job that must be there."""
        job = self.dequeue()
        assert job is not None, "no job came"
        return job

    def none_comes(self) -> bool:
        return self.dequeue(A_MOMENT) is None

    def acknowledge(self, job_id: UUID | str) -> None:
        self.run(self.adapter.acknowledge(job_id))

    def reject(self, job_id: UUID | str, **options: Any) -> None:
        self.run(self.adapter.reject(job_id, **options))

    def cancel(self, job_id: UUID | str, *, running: bool = False) -> bool:
        return self.run(self.adapter.cancel_job(job_id, running=running))

    def stored(self, job_id: UUID) -> Job:
        job = self.run(self.adapter.get_job(job_id))
        assert job is not None, "the job is not stored"
        return job

    def status(self, job_id: UUID) -> JobStatus:
        return self.stored(job_id).status


@contextmanager
def memory_queue() -> Iterator[QueueUnderTest]:
    with asyncio.Runner() as loop:
        yield QueueUnderTest(adapter=MemoryJobQueueAdapter(), features=MEMORY, loop=loop)
