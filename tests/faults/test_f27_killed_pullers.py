"""F27: processes that take jobs by dequeue are killed while they hold them, and there is no worker anywhere."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from portico_celery.ports.job import JobStatus
from tests.faults.conftest import Report
from tests.faults.pullers import start_puller
from tests.faults.sizes import TIMEOUT, chances, size
from tests.faults.system import System, a_system
from tests.faults.verdict import judge
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(TIMEOUT)

JOBS = size(200, 2_000)
KILLS = size(3, 15)
CALLERS = 20
SECONDS = size(60.0, 240.0)


def kill_again_and_again(system: System, chance: random.Random) -> None:
    """Kill the only process that takes jobs whenever it has begun with some, and start the next."""
    for _ in range(KILLS):
        puller = start_puller(system, CALLERS)
        wanted = len(system.ledger.starts) + chance.randint(CALLERS, JOBS // KILLS // 2)
        eventually(lambda wanted=wanted: len(system.ledger.starts) >= wanted, SECONDS, system.shown)  # type: ignore[misc]
        system.workers.kill(puller)
    start_puller(system, CALLERS)


def test_the_jobs_of_a_killed_puller_come_back_and_those_without_retries_never_start_twice(
    broker_url: str, postgres_store: str, tmp_path: Path, report: Report
) -> None:
    chance = chances("F27")
    with a_system(broker_url, postgres_store, tmp_path) as system:
        payloads = ({"seconds": chance.uniform(0.0, 0.2)} for _ in range(JOBS))
        # One killed process after the other may hit the same job.
        system.create_all(
            {"payload": payload, "max_retries": 0 if number % 4 == 0 else KILLS}
            for number, payload in enumerate(payloads)
        )
        kill_again_and_again(system, chance)
        system.wait_until_all_ended(SECONDS)
        verdict = judge(system, ends={JobStatus.COMPLETED, JobStatus.DEAD_LETTER})
        jobs, starts = system.jobs(), system.ledger.start_counts()
    once = {job_id for job_id, job in jobs.items() if job.max_retries == 0}
    dead = [job for job in jobs.values() if job.status is JobStatus.DEAD_LETTER]
    report(
        "F27",
        jobs=JOBS,
        kills=KILLS,
        ok=verdict.ok,
        lost=verdict.lost,
        unexpected=verdict.unexpected,
        dup_exec=verdict.dup_exec,
        bound=KILLS * CALLERS,
        disorder=verdict.disorder,
        max_starts_without_retries=max(starts[job_id] for job_id in once),
        unknown_outcome=len(dead),
    )
    assert (verdict.ok, verdict.lost, verdict.unexpected, verdict.disorder) == (JOBS, 0, 0, 0)
    assert 0 < verdict.dup_exec <= KILLS * CALLERS, "the kills hit no run, or cost more than they can"
    assert max(starts[job_id] for job_id in once) == 1
    assert 0 < len(dead) <= KILLS * CALLERS
    assert {str(job.id) for job in dead} <= once
    assert all("its outcome is unknown" in str(job.error_message) for job in dead)
