"""F02: processes of a prefork pool die, by their own fault and by others', and the worker's main process lives on."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Report
from tests.faults.sizes import TIMEOUT, chances, size
from tests.faults.system import System, a_system
from tests.faults.verdict import judge, recovery_p99
from tests.faults.workers import Worker
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(TIMEOUT)

WAYS = ("SIGKILL", "SIGSEGV", "exit")
DEATHS_EACH = size(5, 250)
KILLS = size(10, 250)
BYSTANDERS = size(60, 2_000)
CONCURRENCY = 4
SECONDS = size(60.0, 600.0)


def kill_children(system: System, worker: Worker, chance: random.Random) -> None:
    """Kill one process of the pool after the other, whatever it is doing."""
    for _ in range(KILLS):
        pause = time.monotonic() + chance.uniform(0.05, 0.3)
        eventually(lambda pause=pause: time.monotonic() > pause)  # type: ignore[misc]
        children = eventually(lambda: worker.children, 20, "a pool with processes")
        system.workers.kill_child(chance.choice(children))


def test_the_death_of_pool_processes_loses_no_job_and_no_worker(
    broker_url: str, postgres_store: str, tmp_path: Path, report: Report
) -> None:
    chance = chances("F02")
    jobs = [{"job_type": "fault.die", "payload": {"how": how}, "max_retries": 20} for how in WAYS * DEATHS_EACH]
    jobs += [{"job_type": "fault.work", "payload": {"seconds": 0.2}, "max_retries": 20}] * BYSTANDERS
    chance.shuffle(jobs)
    with a_system(broker_url, postgres_store, tmp_path) as system:
        worker = system.workers.start("prefork", CONCURRENCY)
        system.create_all(jobs)
        kill_children(system, worker, chance)
        system.wait_until_all_ended(SECONDS)
        verdict, deaths = judge(system), len(WAYS) * DEATHS_EACH + KILLS
        survived = worker.running
        report(
            "F02",
            child_deaths=deaths,
            ok=verdict.ok,
            lost=verdict.lost,
            unexpected=verdict.unexpected,
            dup_exec=verdict.dup_exec,
            bound=deaths,
            worker_restarts=0 if survived else 1,
            p99_recover=f"{recovery_p99(system):.1f}s",
        )
    assert (verdict.ok, verdict.lost, verdict.unexpected) == (len(jobs), 0, 0)
    assert verdict.disorder == 0
    assert len(WAYS) * DEATHS_EACH <= verdict.dup_exec <= deaths
    assert survived
