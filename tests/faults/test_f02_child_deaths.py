"""F02: processes of a prefork pool die, by their own fault and by others', and the worker's main process lives on."""

from __future__ import annotations

import random
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Report
from tests.faults.sizes import TIMEOUT, chances, size
from tests.faults.system import System, a_system
from tests.faults.verdict import judge, recovery_p99
from tests.faults.workers import Worker
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(TIMEOUT)

WAYS = ("SIGKILL", "SIGSEGV", "exit")
DEATHS_EACH = size(3, 250)
KILLS = size(6, 250)
DEATHS = (len(WAYS) + 1) * DEATHS_EACH + KILLS  # one way more is to run out of memory
BYSTANDERS = size(60, 2_000)
CONCURRENCY = 4
SECONDS = size(60.0, 1_500.0)


def kill_children(system: System, worker: Worker, chance: random.Random) -> None:
    """Kill one process of the pool after the other, whatever it is doing."""
    for _ in range(KILLS):
        pause = time.monotonic() + chance.uniform(0.05, 0.3)
        eventually(lambda pause=pause: time.monotonic() > pause)  # type: ignore[misc]
        children = eventually(lambda: worker.children, 20, "a pool with processes")
        system.workers.kill_child(chance.choice(children))


def jobs_in_an_order_of_chance(chance: random.Random) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = [{"job_type": "fault.die", "payload": {"how": how}} for how in WAYS * DEATHS_EACH]
    jobs += [{"job_type": "fault.starve"}] * DEATHS_EACH
    jobs += [{"job_type": "fault.work", "payload": {"seconds": 0.2}}] * BYSTANDERS
    chance.shuffle(jobs)
    return [{**job, "max_retries": 20} for job in jobs]


def starved(system: System, job_ids: Collection[str]) -> set[int]:
    """Return the processes that ran out of memory."""
    return {line.pid for line in system.ledger.starts if line.job_id in job_ids and line.attempt == 1}


def test_the_death_of_pool_processes_loses_no_job_and_no_worker(
    broker_url: str, postgres_store: str, tmp_path: Path, report: Report
) -> None:
    chance = chances("F02")
    jobs = jobs_in_an_order_of_chance(chance)
    with a_system(broker_url, postgres_store, tmp_path) as system:
        system.portico.declare("fault.starve", queue=system.queue_name)
        worker = system.workers.start("prefork", CONCURRENCY, app="tests.faults.starving_app")
        created = system.create_all(jobs)
        kill_children(system, worker, chance)
        system.wait_until_all_ended(SECONDS)
        verdict, survived = judge(system), worker.running
        starving = {str(job_id) for job_id, job in zip(created, jobs, strict=True) if job["job_type"] == "fault.starve"}
        starved_on = starved(system, starving) & set(worker.children)
        report(
            "F02",
            child_deaths=DEATHS,
            of_memory=DEATHS_EACH - len(starved_on),
            ok=verdict.ok,
            lost=verdict.lost,
            unexpected=verdict.unexpected,
            dup_exec=verdict.dup_exec,
            bound=DEATHS,
            worker_restarts=0 if survived else 1,
            p99_recover=f"{recovery_p99(system):.1f}s",
        )
    assert (verdict.ok, verdict.lost, verdict.unexpected) == (len(jobs), 0, 0)
    assert verdict.disorder == 0
    assert DEATHS - KILLS <= verdict.dup_exec <= DEATHS
    assert starved_on == set(), "a process without memory lives on"
    assert survived
