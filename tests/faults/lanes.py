"""Workers of several pools beside each other, each with a queue of its own, so that none does another's work."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from portico_celery.ports.job import JobStatus
from tests.faults.system import System
from tests.faults.workers import Worker


@dataclass(frozen=True)
class Lane:
    """A worker, and the queue that only it consumes from."""

    pool: str
    queue: str
    worker: Worker

    def received(self, job_id: UUID) -> int:
        """Count the messages of a job that have reached the worker."""
        return self.worker.log.count(f"[{job_id}] received")


def start_lanes(system: System, pools: Sequence[str], concurrency: int) -> list[Lane]:
    """Start a worker of each pool; returns when all are ready."""
    lanes = []
    for pool in pools:
        queue = f"{system.queue_name}-{pool}"
        lanes.append(Lane(pool, queue, system.workers.start(pool, concurrency, queues=queue, ready=False)))
    for lane in lanes:
        lane.worker.wait_until_ready()
    return lanes


def is_completed(system: System, job_id: UUID) -> bool:
    """Whether a job has done what it was to do."""
    return system.record(job_id).job.status is JobStatus.COMPLETED


def count_completed(system: System, jobs: Collection[UUID]) -> int:
    """Count the jobs that have done what they were to do."""
    return sum(is_completed(system, job_id) for job_id in jobs)
