"""F24: many jobs of a type that a worker does not know come in the midst of those that it knows."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from uuid import UUID

import pytest

from portico_celery.lifecycle import TERMINAL
from tests.faults.conftest import Report
from tests.faults.ledger import percentile
from tests.faults.sizes import TIMEOUT, size
from tests.faults.system import System, a_system
from tests.faults.verdict import judge
from tests.faults.workers import Worker
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(TIMEOUT)

POOLS = ("prefork", "threads")
UNKNOWN_JOBS = size(300, 3_000)
KNOWN_JOBS = size(20, 100)
GRACE = 3.0
#: What Celery takes to end around the grace, and what this machine may take longer.
SLACK = size(15.0, 7.0)
#: Within this a job starts though there are so many others before it.
START_SECONDS = size(30.0, 60.0)
DRAIN_SECONDS = size(80.0, 600.0)


def flood(system: System) -> tuple[list[UUID], float]:
    """Create the jobs, those that are known among the others; returns the former, and when they were created."""
    each = UNKNOWN_JOBS // KNOWN_JOBS
    known = []
    for _ in range(KNOWN_JOBS):
        created = system.create_all([{"job_type": "fault.next"}] * each + [{"max_retries": 0}])
        known.append(created[-1])
    return known, time.time()


def started_after(system: System, jobs: list[UUID], since: float) -> list[float]:
    """Wait until jobs have started; returns how long each took."""
    names = set(map(str, jobs))

    def starts() -> list[float]:
        return [line.at - since for line in system.ledger.starts if line.job_id in names]

    eventually(lambda: len(starts()) >= len(names), START_SECONDS, system.shown)
    return starts()


def seconds_to_end(workers: list[Worker]) -> list[float]:
    """Tell workers to stop; returns how long each took, and fails where one does not or not in good order."""
    told_at, took = time.monotonic(), []
    for worker in workers:
        os.kill(worker.pid, signal.SIGTERM)
    for worker in workers:
        eventually(lambda worker=worker: not worker.running, GRACE + SLACK, lambda worker=worker: worker.log_tail)  # type: ignore[misc]
        assert worker.log_tail.splitlines()[0].endswith("exit code 0):"), worker.log_tail
        took.append(time.monotonic() - told_at)
    return took


def test_jobs_that_nobody_knows_hold_up_neither_the_others_nor_the_end_of_a_worker(
    broker_url: str, postgres_store: str, tmp_path: Path, report: Report
) -> None:
    with a_system(broker_url, postgres_store, tmp_path, shutdown_grace=GRACE) as system:
        system.portico.declare("fault.next", queue=system.queue_name)
        workers = [system.workers.start(pool, 2, ready=False) for pool in POOLS]
        for worker in workers:
            worker.wait_until_ready()
        known, since = flood(system)
        waits = started_after(system, known, since)
        # And another one, in the midst of which they are told to stop.
        system.create_all([{"job_type": "fault.next"}] * UNKNOWN_JOBS)
        took = seconds_to_end(workers)
        ended_unknown = sum(job.status in TERMINAL for job in system.jobs().values() if job.job_type == "fault.next")
        system.workers.start("threads", 4, app="tests.faults.next_app")
        system.wait_until_all_ended(DRAIN_SECONDS)
        verdict = judge(system)
        retries_spent = sum(job.retry_count for job in system.jobs().values())
    report(
        "F24",
        unknown=verdict.acked - len(known),
        known=len(known),
        known_started_within=f"{max(waits):.1f}s",
        known_p50=f"{percentile(waits, 0.5):.1f}s",
        grace=f"{GRACE:.0f}s",
        workers_ended_within=f"{max(took):.1f}s",
        ended_in_vain=ended_unknown,
        ok=verdict.ok,
        lost=verdict.lost,
        dup_exec=verdict.dup_exec,
        retry_spent=retries_spent,
    )
    assert ended_unknown == 0
    assert (verdict.ok, verdict.lost, verdict.unexpected, verdict.dup_exec) == (verdict.acked, 0, 0, 0)
    assert retries_spent == 0
