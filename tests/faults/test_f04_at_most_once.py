"""F04: jobs that may not be retried, in the storm of F01."""

from __future__ import annotations

from pathlib import Path

import pytest

from portico_celery.ports.job import JobStatus
from tests.faults.conftest import Report
from tests.faults.sizes import TIMEOUT, chances
from tests.faults.storm import BOUND, storm
from tests.faults.system import a_system
from tests.faults.verdict import judge

pytestmark = pytest.mark.timeout(TIMEOUT)


def test_a_job_that_may_not_be_retried_never_starts_twice_while_workers_are_killed(
    broker_url: str, postgres_store: str, tmp_path: Path, report: Report
) -> None:
    with a_system(broker_url, postgres_store, tmp_path) as system:
        storm(system, chances("F04"), {"max_retries": 0})
        verdict = judge(system, ends={JobStatus.COMPLETED, JobStatus.DEAD_LETTER})
        dead = [job for job in system.jobs().values() if job.status is JobStatus.DEAD_LETTER]
    report(
        "F04",
        acked=verdict.acked,
        ok=verdict.ok,
        lost=verdict.lost,
        unexpected=verdict.unexpected,
        max_starts=verdict.max_starts,
        unknown_outcome=len(dead),
        bound=BOUND,
    )
    assert verdict.max_starts == 1
    assert verdict.lost == 0
    assert verdict.unexpected == 0
    assert 0 < len(dead) <= BOUND, "the kills hit no run, or cost more than they can"
    assert all("its outcome is unknown" in str(job.error_message) for job in dead)
