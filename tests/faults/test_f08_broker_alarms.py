"""F08: the broker, short of memory or disk, takes no message. Plain Celery hangs when it waits for confirms."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery import Celery

from portico_celery import PorticoCelery
from tests.faults.conftest import Report
from tests.faults.control import Control
from tests.faults.ledger import accept, percentile
from tests.faults.rabbitmqctl import rabbitmqctl
from tests.faults.sizes import TIMEOUT, size
from tests.faults.steady_client import a_steady_client
from tests.faults.system import System, a_system
from tests.faults.verdict import judge
from tests.services import PrivateRabbitMQ
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(TIMEOUT)

#: What raises an alarm, and what ends it.
ALARMS = {
    "memory": (("set_vm_memory_high_watermark", "0"), ("set_vm_memory_high_watermark", "0.4")),
    "disk": (("set_disk_free_limit", "100000000000000"), ("set_disk_free_limit", "1000000")),
}
ALARM_SECONDS = size(2.5, 30.0)
CREATES_PER_SECOND = 50
SECONDS = 60.0
#: Whoever waited for the broker would take longer: as long as an alarm, and what it takes to end it.
MOST_SECONDS = 2.5
#: Who is told to close waits 2 s for what may still be confirmed.
MOST_CLOSE_SECONDS = 6.0


@contextmanager
def an_alarm(node: PrivateRabbitMQ, name: str) -> Iterator[None]:
    begin, end = ALARMS[name]
    rabbitmqctl(node, *begin)
    try:
        yield
    finally:
        rabbitmqctl(node, *end)


def a_plain_client(system: System) -> threading.Thread:
    """Start a thread in which plain Celery sends one task."""
    thread = threading.Thread(target=lambda: Control(system).send("plain.work"), name="control", daemon=True)
    thread.start()
    return thread


def come_and_go(system: System) -> float:
    """Create a job by a client that is made for it and closed at once; returns how long all of it took."""
    began = time.monotonic()
    app = Celery("newcomer", broker=system.broker_url, set_as_current=False)
    portico = PorticoCelery(app, store=system.store_url)
    portico.declare("fault.work", queue=system.queue_name)
    accept(system.directory, [portico.sync.create_job("fault.work", {}).id])
    portico.close()
    app.close()
    return time.monotonic() - began


def our_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("portico-")}


def test_creating_goes_on_while_the_broker_blocks_publishing_and_every_job_runs_when_it_no_longer_does(
    broker_node: PrivateRabbitMQ, sqlite_store: str, tmp_path: Path, report: Report
) -> None:
    before, control_hung, close_seconds = our_threads(), 0, []
    with a_system(broker_node.url, sqlite_store, tmp_path) as system:
        worker = system.workers.start("threads", 4)
        with a_steady_client(system, "F08", per_second=CREATES_PER_SECOND) as client:
            for alarm in ALARMS:
                with an_alarm(broker_node, alarm):
                    until = time.monotonic() + ALARM_SECONDS
                    control = a_plain_client(system)
                    close_seconds.append(come_and_go(system))
                    eventually(lambda until=until: time.monotonic() > until, 2 * ALARM_SECONDS)  # type: ignore[misc]
                    control_hung += control.is_alive()
                control.join(SECONDS)
                assert not control.is_alive(), "the control hangs for good"
        flushed = system.portico.flush(SECONDS)
        system.wait_until_all_ended(SECONDS)
        verdict, survived = judge(system), worker.running
    stuck = our_threads() - before
    report(
        "F08",
        alarms=",".join(ALARMS),
        accepted=verdict.acked,
        errors=len(client.errors),
        create_p99=f"{percentile(client.create_seconds, 0.99) * 1000:.0f}ms",
        create_max=f"{max(client.create_seconds) * 1000:.0f}ms",
        close_max=f"{max(close_seconds):.1f}s",
        stuck_threads=len(stuck),
        lost=verdict.lost,
        unexpected=verdict.unexpected,
        dup_exec=verdict.dup_exec,
        control_hung=f"{control_hung}/{len(ALARMS)}",
    )
    assert client.errors == []
    assert max(client.create_seconds) < MOST_SECONDS
    assert max(close_seconds) < MOST_CLOSE_SECONDS
    assert flushed
    assert stuck == set()
    assert (verdict.ok, verdict.lost, verdict.unexpected, verdict.dup_exec) == (verdict.acked, 0, 0, 0)
    assert survived
    assert control_hung == len(ALARMS), "the fault did plain Celery no harm"
