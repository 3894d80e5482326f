"""F13: a worker stands still for three leases in the middle of its jobs, and then goes on as if nothing was."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from portico_celery.ports.job import JobStatus
from tests.faults.conftest import Report
from tests.faults.sizes import LEASE, TIMEOUT, chances, size
from tests.faults.system import System, a_system
from tests.faults.verdict import judge, stale_ends
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(TIMEOUT)

ROUNDS = size(1, 20)
JOBS = 10


def pause_a_worker(system: System, seconds: list[float]) -> None:
    """Freeze the worker that has begun all jobs, let another do them, and have the first come back."""
    before = len(system.ledger.starts)
    frozen = system.workers.start("threads", len(seconds))
    # The first attempts are over when their worker comes back, and not before it stands still. Some second attempts end
    # meanwhile, others later.
    jobs = system.create_all({"payload": {"seconds": [2 * LEASE, last]}} for last in seconds)
    eventually(lambda: len(system.ledger.starts) == before + len(jobs), 10, "the start of all jobs")
    frozen.freeze()
    until = time.monotonic() + 3 * LEASE
    other = system.workers.start("threads", len(seconds))
    eventually(lambda: time.monotonic() > until, 4 * LEASE)
    frozen.thaw()
    system.wait_until_all_ended(20)
    ids = set(map(str, jobs))

    def all_first_attempts_have_reported() -> bool:
        # One that has not come to its end by then is stopped, since its worker finds out first that it is too late.
        over = [*system.ledger.ends, *system.ledger.stops]
        return {line.job_id for line in over if line.attempt == 1} >= ids

    eventually(all_first_attempts_have_reported, 10, system.shown)
    # A worker that is stopped at leisure has reported all that it ran.
    frozen.stop()
    other.stop()


def test_what_a_paused_worker_reports_late_changes_nothing(
    broker_url: str, sqlite_store: str, tmp_path: Path, report: Report
) -> None:
    chance = chances("F13")
    with a_system(broker_url, sqlite_store, tmp_path) as system:
        for _ in range(ROUNDS):
            pause_a_worker(system, [chance.uniform(0.0, 3 * LEASE) for _ in range(JOBS)])
        verdict = judge(system)
        records = [system.record(job_id) for job_id in system.ledger.accepted]
        refused, stopped = stale_ends(system.ledger), len(system.ledger.stops)
        of_the_first = [record for record in records if record.result_data != {"attempt": 2}]
        odd = [record for record in records if [attempt.number for attempt in record.attempts] != [1, 2]]
    report(
        "F13",
        rounds=ROUNDS * JOBS,
        ok=verdict.ok,
        lost=verdict.lost,
        unexpected=verdict.unexpected,
        stale_writes_refused=refused,
        stopped_too_late=stopped,
        double_terminal=len(of_the_first),
    )
    assert (verdict.ok, verdict.lost, verdict.unexpected) == (ROUNDS * JOBS, 0, 0)
    assert refused + stopped == ROUNDS * JOBS
    assert refused > 0, "nobody came to an end too late"
    assert of_the_first == []
    assert odd == []
    assert {record.job.status for record in records} == {JobStatus.COMPLETED}
