"""F07: the broker is killed, and all that it kept is deleted. Plain Celery loses every task that waited."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from tests.faults.conftest import Report
from tests.faults.control import Control
from tests.faults.sizes import TIMEOUT, size
from tests.faults.system import System, a_system
from tests.faults.verdict import judge
from tests.services import PrivateRabbitMQ, PrivateRedis

pytestmark = pytest.mark.timeout(TIMEOUT)

JOBS = size(500, 5_000)
RECOVERY_SECONDS = size(60.0, 180.0)


def wipe_and_judge(system: System, report: Report, broker: str, wipe: Callable[[], None]) -> None:
    control = Control(system)
    system.create_all([{}] * JOBS)
    assert system.portico.flush(60)
    control.send("plain.work", JOBS)
    destroyed = system.waiting_messages()
    assert (destroyed, control.waiting) == (JOBS, JOBS)

    wipe()
    assert (system.waiting_messages(), control.waiting) == (0, 0)
    began = time.monotonic()
    system.workers.start("threads", 4, ready=False)
    system.wait_until_all_ended(RECOVERY_SECONDS)
    recovered_in = time.monotonic() - began
    survived = control.started_in_the_end()
    verdict = judge(system)
    report(
        "F07",
        broker=broker,
        messages_destroyed=destroyed,
        ok=verdict.ok,
        lost=verdict.lost,
        unexpected=verdict.unexpected,
        dup_exec=verdict.dup_exec,
        recovered_in=f"{recovered_in:.1f}s",
        control_lost=JOBS - survived,
    )
    assert (verdict.ok, verdict.lost, verdict.unexpected, verdict.dup_exec) == (JOBS, 0, 0, 0)
    assert survived == 0, "the fault did plain Celery no harm"


def test_every_waiting_job_runs_though_rabbitmq_lost_all_its_data(
    private_rabbitmq: Callable[..., PrivateRabbitMQ], sqlite_store: str, tmp_path: Path, report: Report
) -> None:
    node = private_rabbitmq()

    def wipe() -> None:
        node.kill()
        shutil.rmtree(node.data)
        node.start()

    with a_system(node.url, sqlite_store, tmp_path) as system:
        wipe_and_judge(system, report, "rabbitmq", wipe)


def test_every_waiting_job_runs_though_redis_as_broker_was_flushed(
    private_redis: Callable[..., PrivateRedis], sqlite_store: str, tmp_path: Path, report: Report
) -> None:
    server = private_redis()

    def wipe() -> None:
        with Redis.from_url(server.url) as client:
            client.flushall()

    with a_system(server.url, sqlite_store, tmp_path) as system:
        wipe_and_judge(system, report, "redis", wipe)
