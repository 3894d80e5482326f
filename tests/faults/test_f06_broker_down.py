"""F06: the broker goes down and comes back while jobs are created and run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery import Celery

from tests.faults.conftest import Report
from tests.faults.ledger import percentile
from tests.faults.plain_settings import SETTINGS
from tests.faults.sizes import TIMEOUT, size
from tests.faults.steady_client import a_steady_client
from tests.faults.system import System, a_system
from tests.faults.verdict import judge
from tests.services import PrivateRabbitMQ

pytestmark = pytest.mark.timeout(TIMEOUT)

OUTAGES = size(1, 5)
CREATES_PER_SECOND = size(50, 100)
PLAIN_SENDS_PER_SECOND = 10
#: Some jobs are under way at any time, so also when the connection breaks.
JOB_SECONDS = size(0.05, 0.025)
#: Whoever waited for the broker would take longer: it is away for as long as a node takes to start.
MOST_SECONDS = 2.5


class PlainClient(threading.Thread):
    """Sends plain tasks meanwhile, with Celery's own retries; who is refused has nothing that would run later."""

    def __init__(self, system: System) -> None:
        super().__init__(name="plain-client")
        self._system = system
        self.enough = threading.Event()
        self.refused = 0
        self.seconds: list[float] = []

    def run(self) -> None:
        app = Celery("control", broker=self._system.broker_url, set_as_current=False)
        app.conf.update(SETTINGS)
        while not self.enough.wait(1 / PLAIN_SENDS_PER_SECOND):
            began = time.perf_counter()
            try:
                app.send_task("plain.work", queue=self._system.control_queue)
            except Exception:  # noqa: BLE001  # of whatever kind: its caller has to see to it
                self.refused += 1
            self.seconds.append(time.perf_counter() - began)
        app.close()


@contextmanager
def a_plain_client(system: System) -> Iterator[PlainClient]:
    client = PlainClient(system)
    client.start()
    try:
        yield client
    finally:
        client.enough.set()
        client.join()


def test_creating_goes_on_while_the_broker_is_down_and_every_job_runs_when_it_is_back(
    private_rabbitmq: Callable[..., PrivateRabbitMQ], sqlite_store: str, tmp_path: Path, report: Report
) -> None:
    node = private_rabbitmq()
    with a_system(node.url, sqlite_store, tmp_path) as system:
        worker = system.workers.start("threads", 4)
        system.create()
        ours = a_steady_client(system, "F06", per_second=CREATES_PER_SECOND, payload={"seconds": JOB_SECONDS})
        with ours as client, a_plain_client(system) as plain:
            for _ in range(OUTAGES):
                node.kill()
                node.start()
        back = time.monotonic()
        system.wait_until_all_ended(60)
        drained_in = time.monotonic() - back
        verdict, survived = judge(system), worker.running
    report(
        "F06",
        outages=OUTAGES,
        accepted=verdict.acked,
        errors=len(client.errors),
        ok=verdict.ok,
        lost=verdict.lost,
        unexpected=verdict.unexpected,
        dup_exec=verdict.dup_exec,
        create_p99=f"{percentile(client.create_seconds, 0.99) * 1000:.0f}ms",
        drained_in=f"{drained_in:.1f}s",
        control_sent=len(plain.seconds),
        control_refused=plain.refused,
        control_max=f"{max(plain.seconds):.1f}s",
    )
    assert plain.refused > 0, "the outages did plain Celery no harm"
    assert client.errors == []
    assert verdict.acked == 1 + len(client.create_seconds)
    assert (verdict.ok, verdict.lost, verdict.unexpected, verdict.dup_exec) == (verdict.acked, 0, 0, 0)
    assert max(client.seconds) < MOST_SECONDS
    assert survived
