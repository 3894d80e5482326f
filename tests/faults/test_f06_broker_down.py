"""F06: the broker goes down and comes back while jobs are created and run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.conftest import Report
from tests.faults.ledger import percentile
from tests.faults.sizes import TIMEOUT, size
from tests.faults.system import System, a_system
from tests.faults.verdict import judge
from tests.services import PrivateRabbitMQ

pytestmark = pytest.mark.timeout(TIMEOUT)

OUTAGES = size(1, 5)
CREATES_PER_SECOND = size(50, 100)
#: Some jobs are under way at any time, so also when the connection breaks.
JOB_SECONDS = size(0.05, 0.025)
#: Whoever waited for the broker's connection, confirmation or timeout would take longer.
MOST_SECONDS = 1.0


class Client(threading.Thread):
    """Creates jobs at an even pace until it is told to stop."""

    def __init__(self, system: System) -> None:
        super().__init__(name="client")
        self._system = system
        self.enough = threading.Event()
        self.seconds: list[float] = []
        self.errors: list[Exception] = []

    def run(self) -> None:
        while not self.enough.wait(1 / CREATES_PER_SECOND):
            began = time.perf_counter()
            try:
                self._system.create(payload={"seconds": JOB_SECONDS})
            except Exception as error:  # noqa: BLE001  # whatever it is, the test fails of it
                self.errors.append(error)
            self.seconds.append(time.perf_counter() - began)


@contextmanager
def a_client(system: System) -> Iterator[Client]:
    client = Client(system)
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
        with a_client(system) as client:
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
        create_p99=f"{percentile(client.seconds, 0.99) * 1000:.0f}ms",
        drained_in=f"{drained_in:.1f}s",
    )
    assert client.errors == []
    assert verdict.acked == 1 + len(client.seconds)
    assert (verdict.ok, verdict.lost, verdict.unexpected, verdict.dup_exec) == (verdict.acked, 0, 0, 0)
    assert max(client.seconds) < MOST_SECONDS
    assert survived
