"""F11: the queue is deleted behind a publisher's back. Plain Celery, with confirms on, loses what it then sends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, pools

from tests.faults.conftest import Report
from tests.faults.control import Control
from tests.faults.plain_settings import SETTINGS
from tests.faults.sizes import TIMEOUT, chances, size
from tests.faults.steady_client import a_steady_client
from tests.faults.system import System, a_system
from tests.faults.verdict import judge
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(TIMEOUT)

JOBS = size(100, 500)
DELETIONS = size(2, 10)
JOBS_BETWEEN = size(30, 150)
#: The worker takes longer than a client that creates on a slow disk: some always wait.
JOB_SECONDS = size(0.2, 0.05)
SECONDS = size(30.0, 120.0)


def delete_queue(broker_url: str, name: str) -> int:
    """Delete a queue with all that it holds; returns how many messages that were."""
    with Connection(broker_url) as connection:
        channel: Any = connection.channel()
        return int(channel.queue_delete(name))


def test_no_job_is_dropped_in_silence_when_the_queue_is_deleted_under_a_warm_publisher(
    broker_url: str, sqlite_store: str, tmp_path: Path, report: Report
) -> None:
    with a_system(broker_url, sqlite_store, tmp_path) as system:
        system.create()
        assert system.portico.flush(SECONDS)
        assert delete_queue(broker_url, system.queue_name) == 1, "the publisher had not declared the queue"
        system.create_all([{}] * JOBS)
        assert system.portico.flush(SECONDS)
        dropped = JOBS - system.waiting_messages()

        system.workers.start("threads", 4)
        system.wait_until_all_ended(SECONDS)
        verdict = judge(system)
        control_lost = control_loses(system)
    report(
        "F11",
        creates=JOBS,
        silent_drops=dropped,
        ok=verdict.ok,
        lost=verdict.lost,
        unexpected=verdict.unexpected,
        dup_exec=verdict.dup_exec,
        control_lost=control_lost,
    )
    assert dropped == 0
    assert (verdict.ok, verdict.lost, verdict.unexpected, verdict.dup_exec) == (JOBS + 1, 0, 0, 0)
    assert control_lost == JOBS, "the fault did plain Celery no harm"


def control_loses(system: System) -> int:
    """Do the same to plain Celery, whose sends all succeed; returns how many of its tasks never start."""
    app = Celery("control", broker=system.broker_url, set_as_current=False)
    app.conf.update(SETTINGS)
    control = Control(system)
    try:
        app.send_task("plain.work", queue=system.control_queue)
        assert delete_queue(system.broker_url, system.control_queue) == 1
        for _ in range(JOBS):
            app.send_task("plain.work", queue=system.control_queue)
    finally:
        app.close()
        # What Celery believes to be declared outlives the app; it would cost the last task of the control, too.
        pools.reset()
    return JOBS - control.started_in_the_end()


def test_every_job_runs_though_its_queue_is_deleted_again_and_again_with_all_that_waits_in_it(
    broker_url: str, sqlite_store: str, tmp_path: Path, report: Report
) -> None:
    chance, destroyed = chances("F11"), 0
    with a_system(broker_url, sqlite_store, tmp_path) as system:
        worker = system.workers.start("threads", 2)
        with a_steady_client(system, "F11", per_second=100, payload={"seconds": JOB_SECONDS}) as client:
            for _ in range(DELETIONS):
                wanted = len(client.attempted) + chance.randint(JOBS_BETWEEN // 2, JOBS_BETWEEN)
                eventually(lambda wanted=wanted: len(client.attempted) > wanted, SECONDS)  # type: ignore[misc]
                destroyed += delete_queue(broker_url, system.queue_name)
        system.wait_until_all_ended(SECONDS)
        verdict, survived = judge(system), worker.running
    report(
        "F11",
        deletions=DELETIONS,
        messages_destroyed=destroyed,
        ok=verdict.ok,
        lost=verdict.lost,
        unexpected=verdict.unexpected,
        dup_exec=verdict.dup_exec,
        worker_exits=0 if survived else 1,
    )
    assert client.errors == []
    assert destroyed > 0, "the queue was empty whenever it was deleted"
    assert (verdict.ok, verdict.lost, verdict.unexpected, verdict.dup_exec) == (verdict.acked, 0, 0, 0)
    assert survived
