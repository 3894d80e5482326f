"""What a job store promises to several processes that use it at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TypeVar
from uuid import UUID, uuid4

import psycopg
import pytest

from portico_celery.adapters.job_store import sql_schema
from portico_celery.adapters.job_store.sql_store import SqlJobStore
from portico_celery.exceptions import StoreUnavailable
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import JobFilter
from portico_celery.ports.job_store import Claim, Finish, JobStore, Transition
from tests.contracts.stores import SERVERS, SHARED_STORES
from tests.postgresql import own_schema

T = TypeVar("T")
OpenStore = Callable[[], JobStore]

PROCESSES = 3
BATCH = 10
COMPLETED = Transition(status=JobStatus.COMPLETED, retry_count=0)

_together: Barrier


def _start(barrier: Barrier) -> None:
    global _together
    _together = barrier


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, context, _start, (context.Barrier(PROCESSES),)) as pool:
        yield pool


@pytest.fixture(params=SHARED_STORES)
def open_store(request: pytest.FixtureRequest) -> Iterator[OpenStore]:
    where = request.getfixturevalue(SERVERS.get(request.param, "tmp_path"))
    with SHARED_STORES[request.param](where) as open_it:
        yield open_it


def in_each(pool: ProcessPoolExecutor, work: Callable[..., T], *arguments: object) -> list[T]:
    """Let each process work, from one moment on; what each returned. The first argument is the process's number."""
    futures = [pool.submit(_at_once, work, number, *arguments) for number in range(PROCESSES)]
    return [future.result(timeout=60) for future in futures]


def _at_once(work: Callable[..., T], *arguments: object) -> T:
    _together.wait(timeout=30)  # also sees to it that each process takes one share
    return work(*arguments)


def _persistently(call: Callable[[], T]) -> T:
    # StoreUnavailable says: nothing was stored, try again.
    for _ in range(10):
        try:
            return call()
        except StoreUnavailable:
            continue
    return call()


@dataclass
class Share:
    """What one process has done."""

    created: list[UUID]
    claimed: list[UUID]
    completed: list[UUID]


def _create_and_claim(number: int, open_store: OpenStore, ids: Sequence[UUID]) -> Share:
    share = Share([], [], [])
    first = number * len(ids) // PROCESSES
    order = [*ids[first:], *ids[:first]]
    with closing(open_store()) as store:
        for start in range(0, len(order), BATCH):
            jobs = [
                Job(id=job_id, queue_name="default", job_type="email.send", payload={"creator": number})
                for job_id in order[start : start + BATCH]
            ]
            answers = _persistently(partial(store.insert, jobs, knock_seconds=30))
            share.created += [job.id for job, created in answers if created]
            claims = [Claim(job_id=job.id, worker=str(number), lease_seconds=600) for job in jobs]
            taken = [claimed for claimed in _persistently(partial(store.claim, claims)) if claimed]
            share.claimed += [claimed.job.id for claimed in taken]
            finishes = [
                Finish(job_id=claimed.job.id, attempt=claimed.attempt, transition=COMPLETED) for claimed in taken
            ]
            ended = _persistently(partial(store.finish, finishes))
            share.completed += [job.id for job in ended if job]
    return share


def _claim_from_the_far_end(number: int, open_store: OpenStore, ids: Sequence[UUID]) -> list[UUID]:
    order = ids if number % 2 else ids[::-1]
    with closing(open_store()) as store:
        won = []
        for job_id in order:
            claim = Claim(job_id=job_id, worker=str(number), lease_seconds=600)
            [claimed] = _persistently(partial(store.claim, [claim]))
            if claimed:
                won.append(claimed.job.id)
        return won


def _open_new_stores(_number: int, stores: Sequence[OpenStore]) -> list[UUID | str]:
    ids: list[UUID | str] = []
    for open_store in stores:
        job = Job(id=uuid4(), queue_name="default", job_type="email.send", payload={})
        _together.wait(timeout=30)
        with closing(open_store()) as store:
            try:
                store.insert([job], knock_seconds=30)
            except StoreUnavailable as error:
                ids.append(str(error))
            else:
                ids.append(job.id)
    return ids


def test_each_job_is_created_claimed_and_completed_by_one_process(
    processes: ProcessPoolExecutor, open_store: OpenStore
) -> None:
    ids = [uuid4() for _ in range(180)]
    shares = in_each(processes, _create_and_claim, open_store, ids)
    for done in ("created", "claimed", "completed"):
        assert sorted(job_id for share in shares for job_id in getattr(share, done)) == sorted(ids), done
    with closing(open_store()) as store:
        jobs = store.list_jobs(JobFilter(limit=1_000)).jobs
        assert {job.id for job in jobs} == set(ids)
        assert {job.status for job in jobs} == {JobStatus.COMPLETED}
        for number, share in enumerate(shares):
            for job_id in share.created:
                record = store.get(job_id)
                assert record is not None
                assert record.job.payload == {"creator": number}
            for job_id in share.claimed:
                record = store.get(job_id)
                assert record is not None
                assert [attempt.worker for attempt in record.attempts] == [str(number)]


def test_of_processes_that_race_for_single_jobs_one_wins_each(
    processes: ProcessPoolExecutor, open_store: OpenStore
) -> None:
    jobs = [Job(id=uuid4(), queue_name="default", job_type="email.send", payload={}) for _ in range(90)]
    with closing(open_store()) as store:
        store.insert(jobs, knock_seconds=30)
        won = in_each(processes, _claim_from_the_far_end, open_store, [job.id for job in jobs])
        assert sorted(job_id for ids in won for job_id in ids) == sorted(job.id for job in jobs)
        assert store.stats("default").running_count == len(jobs)


@pytest.mark.parametrize(("name", "stores"), [("sqlite", 25), ("postgresql", 5), ("redis", 5)])
def test_processes_may_make_a_new_store_at_the_same_moment(
    processes: ProcessPoolExecutor, request: pytest.FixtureRequest, tmp_path: Path, name: str, stores: int
) -> None:
    with ExitStack() as stack:
        places: list[OpenStore] = []
        for number in range(stores):
            directory = tmp_path / str(number)
            directory.mkdir()
            where = request.getfixturevalue(SERVERS[name]) if name in SERVERS else directory
            places.append(stack.enter_context(SHARED_STORES[name](where)))
        made = in_each(processes, _open_new_stores, places)
        for number, open_store in enumerate(places):
            with closing(open_store()) as store:
                assert {job.id for job in store.list_jobs(JobFilter()).jobs} == {ids[number] for ids in made}


def test_who_finds_a_store_that_is_prepared_waits_for_nobody_who_prepares_another(postgres_url: str) -> None:
    with own_schema(postgres_url) as url, closing(SqlJobStore(url)) as first, closing(SqlJobStore(url)) as second:
        first.initialize()
        with psycopg.connect(postgres_url) as other:
            other.execute("SELECT pg_advisory_xact_lock(%s)", [sql_schema.MIGRATION_LOCK])
            second.initialize()
            assert second.stats("default").pending_count == 0
