"""F20: PostgreSQL is killed, and started again, in the midst of creates. It is no test of a power cut."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from portico_celery.exceptions import StoreError
from tests.faults.conftest import Report
from tests.faults.ledger import accept
from tests.faults.sizes import TIMEOUT, chances, size
from tests.faults.system import System, a_system
from tests.faults.verdict import judge
from tests.postgresql import PrivatePostgreSQL
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(TIMEOUT)

KILLS = size(2, 10)
CREATES_BETWEEN = size(100, 500)
CLIENTS = 4


class Clients:
    """Threads that create jobs of ids that they know, and note which were accepted."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._enough = threading.Event()
        self._chance = chances("F20")
        self.attempted: list[str] = []
        self.errors: list[Exception] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, each with the create that it is at."""
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._enough.is_set():
            job_id = UUID(int=self._chance.getrandbits(128), version=4)
            self.attempted.append(str(job_id))
            try:
                self._system.portico.sync.create_job("fault.work", {}, job_id=job_id)
            except Exception as error:  # noqa: BLE001  # looked at when all is over
                self.errors.append(error)
                self._enough.wait(0.05)
            else:
                accept(self._system.directory, [job_id])


def test_an_accepted_job_has_its_row_though_the_store_was_killed(
    broker_url: str, private_postgresql: Callable[..., PrivatePostgreSQL], tmp_path: Path, report: Report
) -> None:
    server = private_postgresql()
    with a_system(broker_url, server.url, tmp_path) as system:
        clients = Clients(system)
        clients.start()
        try:
            for _ in range(KILLS):
                wanted = len(system.ledger.accepted) + CREATES_BETWEEN
                eventually(lambda wanted=wanted: len(system.ledger.accepted) >= wanted, 60)  # type: ignore[misc]
                server.kill()
                server.start()
        finally:
            clients.stop()
        rows = set(system.jobs())
        missing = set(system.ledger.accepted) - rows
        system.workers.start("threads", 4)
        system.wait_until_all_ended(60)
        verdict = judge(system, attempted=clients.attempted)
    report(
        "F20",
        kills=KILLS,
        attempts=len(clients.attempted),
        accepted=verdict.acked,
        refused=len(clients.errors),
        rows=len(rows),
        missing_rows=len(missing),
        lost=verdict.lost,
        unexpected=verdict.unexpected,
    )
    assert missing == set()
    assert clients.errors, "nobody noticed the fault"
    assert all(isinstance(error, StoreError) for error in clients.errors), clients.errors
    assert (verdict.ok, verdict.lost, verdict.unexpected) == (verdict.acked, 0, 0)
