"""F01: whole workers are killed, again and again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.conftest import Report
from tests.faults.ledger import percentile
from tests.faults.sizes import LEASE, SWEEP, TIMEOUT, chances, size
from tests.faults.storm import BOUND, storm
from tests.faults.system import System, a_system
from tests.faults.verdict import judge, recovery_p99

pytestmark = pytest.mark.timeout(TIMEOUT)

#: So much later than its lease and a sweep a machine may find out that a worker is gone. The fast size runs beside
#: other tests, which tells nothing of how long it takes.
SLACK = size(30.0, 3.0)


def losses(system: System) -> list[float]:
    """Return how long after the death of its worker each run that was under way was given up."""
    ended = {(line.job_id, line.attempt) for line in system.ledger.ends}
    seconds = []
    for line in system.ledger.starts:
        killed_at = [kill.at for kill in system.workers.kills if line.pid in kill.pids and kill.at >= line.at]
        if killed_at and (line.job_id, line.attempt) not in ended:
            given_up_at = system.record(line.job_id).attempts[line.attempt - 1].ended_at
            assert given_up_at is not None
            seconds.append(given_up_at.timestamp() - killed_at[0])
    return seconds


def weather(system: System, report: Report, store: str) -> None:
    storm(system, chances(f"F01 {store}"), {"max_retries": 20})
    verdict, lost_after = judge(system), losses(system)
    report(
        "F01",
        store=store,
        attempts=verdict.acked,
        acked=verdict.acked,
        ok=verdict.ok,
        lost=verdict.lost,
        unexpected=verdict.unexpected,
        dup_exec=verdict.dup_exec,
        bound=BOUND,
        given_up=len(lost_after),
        given_up_after=f"{percentile(lost_after, 0.5):.1f}s..{max(lost_after, default=0):.1f}s",
        p99_recover=f"{recovery_p99(system):.1f}s",
    )
    assert verdict.lost == 0
    assert verdict.unexpected == 0
    assert verdict.ok == verdict.acked
    assert verdict.disorder == 0
    assert 0 < verdict.dup_exec <= BOUND, "the kills hit no run, or cost more than they can"
    assert max(lost_after) <= LEASE + SWEEP + SLACK


def test_no_job_is_lost_on_postgresql_while_workers_are_killed(
    broker_url: str, postgres_store: str, tmp_path: Path, report: Report
) -> None:
    with a_system(broker_url, postgres_store, tmp_path) as system:
        weather(system, report, "postgresql")


def test_no_job_is_lost_on_redis_while_workers_are_killed(
    broker_url: str, redis_store: str, tmp_path: Path, report: Report
) -> None:
    with a_system(broker_url, redis_store, tmp_path) as system:
        weather(system, report, "redis")
