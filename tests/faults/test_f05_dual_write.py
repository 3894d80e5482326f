"""F05: the client dies between its commit and its knock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from tests.faults.conftest import Report
from tests.faults.control import Control
from tests.faults.ledger import percentile
from tests.faults.sizes import KNOCK, TIMEOUT, chances, size
from tests.faults.system import System, a_system
from tests.faults.verdict import judge
from tests.integration.worker_process import ROOT

pytestmark = pytest.mark.timeout(TIMEOUT)

CREATES = size(40, 1_000)
CONTROL_ORDERS = size(10, 100)
CREATE_SECONDS = size(60.0, 600.0)


def create_in_dying_processes(system: System, job_ids: list[UUID], seed: int) -> None:
    run(system, "tests.faults.creator", str(seed), *map(str, job_ids))


def run(system: System, module: str, *arguments: str) -> None:
    environment = {**os.environ, **system.workers.environment, "PYTHONPATH": str(ROOT), "FAULT_KNOCK": str(KNOCK)}
    command = [sys.executable, "-m", module, *arguments]
    subprocess.run(command, check=True, env=environment, cwd=system.directory, timeout=CREATE_SECONDS)


def control_loses(system: System, seed: int) -> int:
    """Return how many orders of a plain client that dies as ours does have no task that ran."""
    control = Control(system)
    run(system, "tests.faults.plain_creator", str(seed), str(CONTROL_ORDERS), system.control_queue)
    return CONTROL_ORDERS - control.started_in_the_end()


def test_every_committed_job_runs_once_though_its_client_died_before_it_knocked(
    broker_url: str, postgres_store: str, tmp_path: Path, report: Report
) -> None:
    chance = chances("F05")
    job_ids = [UUID(int=chance.getrandbits(128), version=4) for _ in range(CREATES)]
    with a_system(broker_url, postgres_store, tmp_path) as system:
        system.workers.start("threads", 4)
        create_in_dying_processes(system, job_ids, chance.randrange(1_000_000))
        committed = {line.job_id: line for line in system.ledger.lines("committed")}
        died = [job_id for job_id, line in committed.items() if line.attempt == 0]
        # Half of the clients that died come back and ask again, by the same id.
        for job_id in died[::2]:
            system.create("fault.work", {}, job_id=UUID(job_id))
        system.wait_until_all_ended(30)
        verdict = judge(system)
        started = {line.job_id: line.at for line in system.ledger.starts}
        delays = [started[job_id] - committed[job_id].at for job_id in died]
        control_lost = control_loses(system, chance.randrange(1_000_000))
    report(
        "F05",
        committed=len(committed),
        died=len(died),
        rows=verdict.ok,
        lost=verdict.lost,
        unexpected=verdict.unexpected,
        dup_exec=verdict.dup_exec,
        p99_extra_delay=f"{percentile(delays, 0.99):.1f}s",
        control_orders=CONTROL_ORDERS,
        control_lost=control_lost,
    )
    assert control_lost > 0, "the fault did plain Celery no harm"
    assert len(committed) == CREATES
    assert 0 < len(died) < CREATES
    assert (verdict.ok, verdict.lost, verdict.unexpected, verdict.dup_exec) == (CREATES, 0, 0, 0)
