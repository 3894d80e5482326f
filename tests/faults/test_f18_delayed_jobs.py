"""F18: jobs for later, with and without a broker that restarts and a worker that is killed meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tests.faults.conftest import Report
from tests.faults.ledger import percentile
from tests.faults.rabbitmqctl import count_messages
from tests.faults.sizes import TIMEOUT, chances, size
from tests.faults.system import System, a_system
from tests.faults.verdict import judge
from tests.faults.workers import Worker
from tests.services import PrivateRabbitMQ
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(TIMEOUT)

JOBS = size(100, 2_000)
FIRST_SECONDS = 3.0
LAST_SECONDS = size(7.0, 60.0)
#: How often to look what is held, in the course of it.
LOOKS = size(3, 15)
REPLY_SECONDS = 10.0
#: Where nothing fails, 99 of 100 jobs start within this, and what a busy machine may take longer. The fast size runs
#: beside other tests.
LATE_SECONDS = 1.5
SLACK = size(4.0, 1.0)


def create_delayed(system: System, name: str) -> dict[str, float]:
    """Create jobs, each with a time of its own; returns when each is due."""
    chance, now = chances(name), datetime.now(UTC)
    times = [now + timedelta(seconds=chance.uniform(FIRST_SECONDS, LAST_SECONDS)) for _ in range(JOBS)]
    jobs = system.create_all({"scheduled_at": time, "max_retries": 5} for time in times)
    assert system.portico.flush(10)
    assert system.waiting_messages() == 0, "a job for later is in the broker already"
    return {str(job_id): time.timestamp() for job_id, time in zip(jobs, times, strict=True)}


def held_too_early(system: System, node: PrivateRabbitMQ, workers: list[Worker], due: dict[str, float]) -> int:
    """Count the messages that the broker or a worker holds for jobs that are not due."""
    ended = {line.job_id for line in system.ledger.ends}
    messages, held = count_messages(node, system.queue_name), list(held_by(system, workers))
    now = time.time()
    # What is due may be there: which of the broker's messages are whose, nobody can tell without taking them.
    waiting = {job_id for job_id, at in due.items() if at <= now} - ended
    return max(0, messages - len(waiting)) + sum(due[job_id] > now for job_id in held)


def held_by(system: System, workers: list[Worker]) -> Iterator[str]:
    """Yield the jobs that workers have in their memory, and have not started."""
    names = [f"{worker.name}@localhost" for worker in workers]
    with Celery("operator", broker=system.broker_url, set_as_current=False) as app:
        inspect: Any = app.control.inspect(destination=names, timeout=REPLY_SECONDS)
        for answer in (inspect.scheduled(), inspect.reserved()):
            assert answer is not None, system.shown()
            assert sorted(answer) == sorted(names), system.shown()
            for tasks in answer.values():
                yield from (task.get("request", task)["id"] for task in tasks)


def figure(system: System, due: dict[str, float], faults: str, too_early: int, report: Report) -> float:
    """Judge a run; returns how late jobs began, but for one of 100."""
    system.wait_until_all_ended(LAST_SECONDS + 40)
    verdict = judge(system)
    firsts: dict[str, float] = {}
    for line in system.ledger.starts:
        firsts.setdefault(line.job_id, line.at)
    late = [at - due[job_id] for job_id, at in firsts.items()]
    early = sum(seconds < 0 for seconds in late)
    figures = {"ok": verdict.ok, "lost": verdict.lost, "dup_exec": verdict.dup_exec, "early": early}
    late_p99 = percentile(late, 0.99)
    report("F18", faults=faults, jobs=JOBS, **figures, late_p99=f"{late_p99:.2f}s", unacked_scheduled=too_early)
    assert too_early == 0
    assert early == 0
    assert (verdict.ok, verdict.lost, verdict.unexpected) == (JOBS, 0, 0)
    return late_p99


def test_no_delayed_job_starts_early_and_none_is_held_by_the_broker_or_a_worker(
    broker_node: PrivateRabbitMQ, sqlite_store: str, tmp_path: Path, report: Report
) -> None:
    # Nothing gets lost here, and a message that is sent once more would be one too many.
    with a_system(broker_node.url, sqlite_store, tmp_path, knock_seconds=60.0) as system:
        worker = system.workers.start("threads", 4)
        due = create_delayed(system, "F18")
        too_early = 0
        for _ in range(LOOKS):
            too_early += held_too_early(system, broker_node, [worker], due)
        late_p99 = figure(system, due, "none", too_early, report)
        assert judge(system).dup_exec == 0
    assert late_p99 <= LATE_SECONDS + SLACK


def test_delayed_jobs_run_though_the_broker_restarts_and_a_worker_is_killed(
    private_rabbitmq: Callable[..., PrivateRabbitMQ], sqlite_store: str, tmp_path: Path, report: Report
) -> None:
    node = private_rabbitmq()
    with a_system(node.url, sqlite_store, tmp_path) as system:
        workers = [system.workers.start("threads", 2, ready=False) for _ in range(2)]
        for worker in workers:
            worker.wait_until_ready()
        due = create_delayed(system, "F18 faults")
        too_early = held_too_early(system, node, workers, due)
        eventually(lambda: system.ledger.starts, 30, system.shown)
        system.workers.kill(workers[0])
        node.kill()
        node.start()
        figure(system, due, "broker,worker", too_early, report)
