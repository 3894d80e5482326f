"""Two threads, each with a store of its own, that come to the same job at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar
from uuid import uuid4

from portico_celery.adapters.job_store.redis_store import RedisJobStore
from portico_celery.adapters.job_store.sql_store import SqlJobStore
from portico_celery.ports.job import Job
from portico_celery.ports.job_store import Claim, ClaimedJob, JobStore

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")


def race(rounds: Sequence[T], one: Callable[[T], A], other: Callable[[T], B]) -> list[tuple[A, B]]:
    """Call both for each round at once; returns what each returned."""
    barrier = threading.Barrier(2, timeout=30)

    def run(call: Callable[[T], A | B]) -> list[A | B]:
        answers = []
        try:
            for item in rounds:
                barrier.wait()
                answers.append(call(item))
        except BaseException:
            barrier.abort()
            raise
        return answers

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(run, one), pool.submit(run, other)
        return list(zip(first.result(), second.result(), strict=True))  # type: ignore[arg-type]  # one call each


@contextmanager
def two_stores(url: str) -> Iterator[tuple[JobStore, JobStore]]:
    """Yield two stores on the same jobs, as two processes would have them."""
    make = RedisJobStore if url.startswith("redis") else SqlJobStore
    pair = (make(url), make(url))
    try:
        yield pair
    finally:
        for store in pair:
            store.close()


def waiting_jobs(store: JobStore, count: int) -> list[Job]:
    """Store new jobs."""
    jobs = [Job(id=uuid4(), queue_name="races", job_type="fault.work", payload={}) for _ in range(count)]
    return [job for job, _created in store.insert(jobs, knock_seconds=60.0)]


def claim(store: JobStore, jobs: Sequence[Job], *, lease_seconds: float) -> list[ClaimedJob]:
    """Claim jobs, all of which must be free."""
    claims = [Claim(job_id=job.id, worker="racer", lease_seconds=lease_seconds) for job in jobs]
    claimed = [taken for taken in store.claim(claims) if taken is not None]
    assert len(claimed) == len(jobs)
    return claimed
