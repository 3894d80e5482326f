"""The job stores under test, each with a clock that the tests turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from redis import Redis

from portico_celery import lifecycle
from portico_celery.adapters.job_store.memory_store import MemoryJobStore
from portico_celery.adapters.job_store.redis_store import RedisJobStore
from portico_celery.adapters.job_store.sql_store import SqlJobStore
from portico_celery.ports.job import Job
from portico_celery.ports.job_reader import JobFilter
from portico_celery.ports.job_store import Claim, ClaimedJob, DueWork, Finish, JobStore, Transition
from tests.postgresql import own_schema

# Waits are checked at half and at once and a half, so that a slow machine can't blur them.
KNOCK = 30.0
LEASE = 30.0

Place = Callable[[Any], AbstractContextManager[Callable[[], SqlJobStore | RedisJobStore]]]


@dataclass
class StoreUnderTest:
    """A store, its clock, and the calls that most tests make, with one job at a time."""

    store: JobStore
    advance: Callable[[float], None]
    clock_offset: Callable[[], float]

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.clock_offset())

    def is_now(self, moment: datetime | None) -> bool:
        return moment is not None and abs(moment - self.now()) < timedelta(seconds=10)

    def insert(self, *jobs: Job) -> list[Job]:
        return [job for job, _created in self.store.insert(jobs, knock_seconds=KNOCK)]

    def claim(self, job_id: UUID, worker: str = "worker-1") -> ClaimedJob | None:
        return self.store.claim([Claim(job_id=job_id, worker=worker, lease_seconds=LEASE)])[0]

    def take(self, job: Job, worker: str = "worker-1") -> ClaimedJob:
        """Claim a job that must be free; one that is not stored yet is stored first."""
        self.insert(job)
        claimed = self.claim(job.id, worker)
        assert claimed is not None, "the job could not be claimed"
        return claimed

    def finish(self, claimed: ClaimedJob, transition: Transition, *, expired_only: bool = False) -> Job | None:
        finish = Finish(
            job_id=claimed.job.id, attempt=claimed.attempt, transition=transition, expired_only=expired_only
        )
        return self.store.finish([finish])[0]

    def lose(self, claimed: ClaimedJob, *, delay: float = 0.0) -> Job:
        """Let the lease run out, and do as the reaper does."""
        self.advance(LEASE * 1.5)
        lost = lifecycle.Lost(worker=claimed.worker, attempt=claimed.attempt)
        job = self.finish(claimed, lifecycle.decide(claimed.job, lost, retry_delay=delay), expired_only=True)
        assert job is not None, "the attempt was not given up"
        return job

    def requeue(self, job_id: UUID) -> Job | None:
        """Start one job afresh; as it is stored then, or None where it may not be."""
        knocks = self.store.requeue(JobFilter(job_ids=(job_id,)), knock_seconds=KNOCK).knocks
        return knocks[0].job if knocks else None

    def discard(self, job_id: UUID) -> bool:
        return bool(self.store.discard(JobFilter(job_ids=(job_id,))).jobs)

    def sweep(self, *, limit: int = 100, knock_seconds: float = KNOCK) -> DueWork:
        return self.store.take_due(limit=limit, knock_seconds=knock_seconds)

    def knocked(self) -> set[UUID]:
        """Sweep, and return whom it knocks for."""
        return {knock.job.id for knock in self.sweep().knocks}

    def job(self, job_id: UUID) -> Job:
        record = self.store.get(job_id)
        assert record is not None, "the job is not stored"
        return record.job


def a_job(
    *,
    queue_name: str = "default",
    job_type: str = "email.send",
    max_retries: int = 3,
    scheduled_at: datetime | None = None,
) -> Job:
    return Job(
        id=uuid4(),
        queue_name=queue_name,
        job_type=job_type,
        payload={"recipient": "zsofia@example.org"},
        max_retries=max_retries,
        scheduled_at=scheduled_at,
    )


@contextmanager
def _memory_store(_directory: Path) -> Iterator[StoreUnderTest]:
    offset = timedelta()

    def advance(seconds: float) -> None:
        nonlocal offset
        offset += timedelta(seconds=seconds)

    store = MemoryJobStore(now=lambda: datetime.now(UTC) + offset)
    yield StoreUnderTest(store, advance, lambda: offset.total_seconds())


@contextmanager
def _under_test(store: SqlJobStore | RedisJobStore) -> Iterator[StoreUnderTest]:
    def advance(seconds: float) -> None:
        store.clock_offset += seconds

    with closing(store):
        yield StoreUnderTest(store, advance, lambda: store.clock_offset)


@contextmanager
def _sqlite(directory: Path) -> Iterator[Callable[[], SqlJobStore]]:
    yield partial(SqlJobStore, f"sqlite:///{directory / 'jobs.db'}")


@contextmanager
def _postgresql(server: str) -> Iterator[Callable[[], SqlJobStore]]:
    with own_schema(server) as url:
        yield partial(SqlJobStore, url)


@contextmanager
def _redis(url: str) -> Iterator[Callable[[], RedisJobStore]]:
    prefix = f"portico-test-{uuid4().hex}"
    try:
        yield partial(RedisJobStore, url, prefix=prefix)
    finally:
        with Redis.from_url(url) as client:
            client.delete("", *client.scan_iter(f"{{{prefix}}}*", count=1_000))


@contextmanager
def _in_one_process(place: Place, where: Any) -> Iterator[StoreUnderTest]:
    with place(where) as open_store, _under_test(open_store()) as under_test:
        yield under_test


# The stores that several processes share: each process opens its own by what the place gives, which can be pickled.
# What makes the place is told where: in a directory of the test's own or, for a store in SERVERS, at the URL that the
# named fixture has found. A further store is a further line here.
SHARED_STORES: dict[str, Place] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "redis": _redis,
}
SERVERS = {"postgresql": "postgres_url", "redis": "redis_url"}

# All stores.
STORES: dict[str, Callable[[Any], AbstractContextManager[StoreUnderTest]]] = {
    "memory": _memory_store,
    **{name: partial(_in_one_process, place) for name, place in SHARED_STORES.items()},
}
