"""F03: a job that kills whatever process runs it. Plain Celery brings it back for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from portico_celery.ports.job import JobStatus
from tests.faults.conftest import Report
from tests.faults.control import Control
from tests.faults.sizes import TIMEOUT, size
from tests.faults.system import a_system
from tests.faults.verdict import judge
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(TIMEOUT)

POISON = 3
GOOD = size(100, 1_000)
MAX_RETRIES = 3
LEASE = 2.0
CONTROL_STARTS = MAX_RETRIES + 2


def test_a_job_that_kills_its_process_is_given_up_after_its_retries_and_harms_no_other(
    broker_url: str, sqlite_store: str, tmp_path: Path, report: Report
) -> None:
    with a_system(broker_url, sqlite_store, tmp_path, lease_seconds=LEASE) as system:
        control = Control(system)
        control.send("plain.poison")
        control.start(concurrency=1)
        worker = system.workers.start("prefork", 2)
        poison = [
            system.create("fault.die", {"how": "SIGKILL", "times": 99}, max_retries=MAX_RETRIES) for _ in range(POISON)
        ]
        good = system.create_all([{"max_retries": MAX_RETRIES}] * GOOD)
        system.wait_until_all_ended(60)
        eventually(lambda: len(system.ledger.lines("failure")) >= POISON * (MAX_RETRIES + 1), 10, system.shown)
        verdict = judge(system, ends={JobStatus.COMPLETED, JobStatus.DEAD_LETTER})
        counts, survived = system.ledger.start_counts(), worker.running
        dead = [system.record(job_id).job for job_id in poison]
        completed = [job for job in system.jobs().values() if job.status is JobStatus.COMPLETED]
        eventually(lambda: len(control.starts) >= CONTROL_STARTS, 30, "the control's poison to come back for ever")
        control_starts = len(control.starts)
    report(
        "F03",
        poison=POISON,
        starts=sorted({counts[str(job.id)] for job in dead}),
        good=len(completed),
        lost=verdict.lost,
        unexpected=verdict.unexpected,
        control_starts=f"{control_starts} and no end",
    )
    assert [counts[str(job.id)] for job in dead] == [MAX_RETRIES + 1] * POISON
    assert {job.status for job in dead} == {JobStatus.DEAD_LETTER}
    assert all("was lost during attempt 4" in str(job.error_message) for job in dead)
    assert {counts[str(job_id)] for job_id in good} == {1}
    assert (len(completed), verdict.lost, verdict.unexpected) == (GOOD, 0, 0)
    assert survived
