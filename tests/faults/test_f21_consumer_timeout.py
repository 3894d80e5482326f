"""F21: a job takes longer than the broker waits for an acknowledgement. Plain Celery's worker is hit by a 406."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from celery import Celery

from tests.faults.conftest import Report
from tests.faults.control import Control
from tests.faults.lanes import Lane, count_completed, start_lanes
from tests.faults.plain_settings import SETTINGS
from tests.faults.sizes import TIMEOUT, size
from tests.faults.system import System, a_system
from tests.services import PrivateRabbitMQ
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(TIMEOUT)

POOLS = ("prefork", "threads", "solo")
#: The broker looks each second who has kept it waiting for longer.
PATIENCE_SECONDS = size(3, 5)
PATIENCE = {"consumer_timeout": f"{PATIENCE_SECONDS}000", "channel_tick_interval": "1000"}
LONG_SECONDS = size(6.0, 20.0)
BEHIND = 3
SECONDS = LONG_SECONDS + 30.0


def send_to_control(system: System) -> None:
    """Send plain Celery a task as long as ours."""
    app = Celery("control", broker=system.broker_url, set_as_current=False)
    app.conf.update(SETTINGS)
    app.send_task("plain.work", kwargs={"seconds": LONG_SECONDS}, queue=system.control_queue)
    app.close()


def create_jobs(system: System, lane: Lane) -> list[UUID]:
    """Create a long job, and others that wait behind it."""
    times = (LONG_SECONDS, *[0.0] * BEHIND)
    return system.create_all({"queue_name": lane.queue, "payload": {"seconds": seconds}} for seconds in times)


def check_deliveries(system: System, lane: Lane, jobs: list[UUID]) -> None:
    # The patience did come to its end: what waited behind the long job was taken from the worker, and came again.
    eventually(lambda: all(lane.received(job_id) > 1 for job_id in jobs[1:]), SECONDS, system.shown)
    # The long job itself was acknowledged when it was taken up.
    assert lane.received(jobs[0]) == 1, lane.worker.log_tail


def test_a_job_longer_than_the_brokers_patience_runs_once_and_so_do_those_behind_it(
    private_rabbitmq: Callable[..., PrivateRabbitMQ], sqlite_store: str, tmp_path: Path, report: Report
) -> None:
    node = private_rabbitmq(config=PATIENCE)
    with a_system(node.url, sqlite_store, tmp_path) as system:
        control = Control(system)
        plain = control.start(concurrency=1)
        # All at once, since what takes long is waiting.
        lanes = start_lanes(system, POOLS, concurrency=1)
        plain.wait_until_ready()
        send_to_control(system)
        jobs = {lane.pool: create_jobs(system, lane) for lane in lanes}
        everyone = [job_id for pool in POOLS for job_id in jobs[pool]]
        eventually(lambda: count_completed(system, everyone) == len(everyone), SECONDS, system.shown)
        for lane in lanes:
            check_deliveries(system, lane, jobs[lane.pool])
        # The control's task is one too long to be acknowledged after it: that ends its worker.
        eventually(lambda: not plain.running, SECONDS, lambda: plain.log_tail)
        starts, completed = system.ledger.start_counts(), count_completed(system, everyone)
        exits = sum(not lane.worker.running for lane in lanes)
        report(
            "F21",
            consumer_timeout=f"{PATIENCE_SECONDS}s",
            job=f"{LONG_SECONDS:.0f}s",
            jobs=len(everyone),
            starts=max(starts.values()),
            worker_exits=exits,
            lost=len(everyone) - completed,
            control_worker_exits=int(not plain.running),
            control_406=plain.log.count("Unrecoverable error: PreconditionFailed"),
        )
    assert starts == dict.fromkeys(map(str, everyone), 1)
    assert (exits, completed) == (0, len(everyone))
