"""F26: many jobs wait and no worker takes them, while another worker's sweep looks at them again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from kombu import Connection, Queue

from portico_celery.adapters.job_store.sql_store import SqlJobStore
from portico_celery.lifecycle import Failed, decide
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_store import Claim, ClaimedJob, Finish
from tests.faults.conftest import Report
from tests.faults.lanes import is_completed
from tests.faults.sizes import TIMEOUT, size
from tests.faults.system import System, a_system
from tests.faults.verdict import judge
from tests.services import PrivateRedis
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(TIMEOUT)

JOBS = size(1_000, 10_000)
KNOCK_SECONDS = size(0.5, 2.0)
KNOCKS = size(6, 20)
WITHOUT_WORKER_SECONDS = KNOCKS * KNOCK_SECONDS
MOST_EXTRA = JOBS // 100
RETRYING_JOBS = 500
JOBS_PER_SECOND = size(20, 50)
DRAIN_SECONDS = size(60.0, 300.0)


def flood(system: System) -> None:
    """Have many jobs wait in a queue that nobody consumes from."""
    system.create_all([{}] * JOBS)
    # Before anybody sweeps: a message that has not been sent yet is missed in the queue as one that was lost would be.
    assert system.portico.flush(60)
    assert system.waiting_messages() == JOBS


def start_sweeps(systems: Iterable[System]) -> None:
    """Start a worker of each that consumes from another queue, and sweeps for all."""
    workers = [system.workers.start("threads", 1, queues=other_queue(system), ready=False) for system in systems]
    for worker in workers:
        worker.wait_until_ready()


def other_queue(system: System) -> str:
    return f"{system.queue_name}-other"


def check_that_it_sweeps(system: System) -> None:
    """Have a job run that only a sweep can tell a worker of."""
    later = datetime.now(UTC) + timedelta(seconds=0.5)
    job_id = system.create(queue_name=other_queue(system), scheduled_at=later)
    eventually(lambda: is_completed(system, job_id), 10, system.shown)


def figure(system: System, broker: str, extra: int, report: Report) -> None:
    system.wait_until_all_ended(DRAIN_SECONDS)
    verdict = judge(system)
    report(
        "F26",
        broker=broker,
        jobs=JOBS,
        without_worker=f"{WITHOUT_WORKER_SECONDS:.0f}s",
        extra_publishes=extra,
        bound=MOST_EXTRA,
        lost=JOBS - verdict.ok,
        dup_exec=verdict.dup_exec,
    )
    assert 0 <= extra <= MOST_EXTRA
    assert (verdict.ok, verdict.dup_exec) == (JOBS, 0)


def test_a_backlog_that_nobody_works_on_is_not_knocked_for_again_and_again(
    broker_url: str, private_redis: Callable[..., PrivateRedis], tmp_path: Path, report: Report
) -> None:
    brokers = {"rabbitmq": broker_url, "redis": private_redis().url}
    with ExitStack() as stack:
        # Both at once, since it is the waiting that takes long.
        systems = {broker: stack.enter_context(a_system_of(url, tmp_path / broker)) for broker, url in brokers.items()}
        for system in systems.values():
            flood(system)
        start_sweeps(systems.values())
        began = time.monotonic()
        eventually(lambda: time.monotonic() > began + WITHOUT_WORKER_SECONDS, 2 * WITHOUT_WORKER_SECONDS)
        extra = {broker: system.waiting_messages() - JOBS for broker, system in systems.items()}
        for system in systems.values():
            check_that_it_sweeps(system)
            system.workers.start("threads", 4, ready=False)
        for broker, system in systems.items():
            figure(system, broker, extra[broker], report)


def fail_all(system: System) -> None:
    """Have every job fail once, so that it waits for its retry, and no message tell of any of them."""
    with closing(SqlJobStore(system.store_url)) as store:
        claims = [Claim(job_id=UUID(job_id), worker="worker-9", lease_seconds=30) for job_id in system.jobs()]
        ends = [end_of(claimed) for claimed in store.claim(claims) if claimed is not None]
        assert None not in store.finish(ends)
    with Connection(system.broker_url) as connection:
        assert Queue(system.queue_name, channel=connection.default_channel).purge() == len(ends) == RETRYING_JOBS


def end_of(claimed: ClaimedJob) -> Finish:
    """Fail an attempt that may be repeated at once."""
    transition = decide(claimed.job, Failed(error=ConnectionError("the mail server hung up")))
    return Finish(job_id=claimed.job.id, attempt=claimed.attempt, transition=transition)


def test_nor_is_one_of_jobs_that_wait_for_their_retry(
    broker_url: str, sqlite_store: str, tmp_path: Path, report: Report
) -> None:
    with a_system(broker_url, sqlite_store, tmp_path, knock_seconds=KNOCK_SECONDS) as system:
        system.create_all([{"max_retries": 1}] * RETRYING_JOBS)
        assert system.portico.flush(60)
        fail_all(system)
        start_sweeps([system])
        eventually(lambda: system.waiting_messages() >= RETRYING_JOBS, 30, system.shown)
        began = time.monotonic()
        eventually(lambda: time.monotonic() > began + WITHOUT_WORKER_SECONDS, 2 * WITHOUT_WORKER_SECONDS)
        assert {job.status for job in system.jobs().values()} == {JobStatus.RETRYING}
        extra = system.waiting_messages() - RETRYING_JOBS
        check_that_it_sweeps(system)
        system.workers.start("threads", 4, ready=False)
        system.wait_until_all_ended(DRAIN_SECONDS)
        verdict = judge(system)
        # Now and then one is sent all the same, since other messages in the queue may hide that it was lost.
        bound = KNOCKS + 1
        lost = RETRYING_JOBS - verdict.ok
        report("F26", broker="rabbitmq", retrying=RETRYING_JOBS, extra_publishes=extra, bound=bound, lost=lost)
    assert 0 <= extra <= bound
    assert (lost, verdict.dup_exec) == (0, 0)


def test_nor_is_one_that_came_job_by_job(broker_url: str, sqlite_store: str, tmp_path: Path, report: Report) -> None:
    with a_system(broker_url, sqlite_store, tmp_path, knock_seconds=KNOCK_SECONDS) as system:
        start_sweeps([system])
        began, jobs = time.monotonic(), 0
        while time.monotonic() < began + WITHOUT_WORKER_SECONDS:
            system.create()
            jobs += 1
            due = began + jobs / JOBS_PER_SECOND
            eventually(lambda due=due: time.monotonic() > due)  # type: ignore[misc]
        assert system.portico.flush(60)
        extra = system.waiting_messages() - jobs
        check_that_it_sweeps(system)
        # Now and then one is sent all the same, since other messages in the queue may hide that it was lost.
        bound = jobs // 100 + KNOCKS + 1
        report("F26", broker="rabbitmq", one_by_one=jobs, extra_publishes=extra, bound=bound)
    assert 0 <= extra <= bound


def a_system_of(broker_url: str, directory: Path) -> AbstractContextManager[System]:
    directory.mkdir()
    return a_system(broker_url, f"sqlite:///{directory / 'jobs.db'}", directory, knock_seconds=KNOCK_SECONDS)
