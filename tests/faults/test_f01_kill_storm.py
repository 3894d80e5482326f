"""F01: whole workers are killed, again and again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.conftest import Report
from tests.faults.sizes import TIMEOUT, chances
from tests.faults.storm import BOUND, storm
from tests.faults.system import System, a_system
from tests.faults.verdict import judge, recovery_p99

pytestmark = pytest.mark.timeout(TIMEOUT)


def weather(system: System, report: Report, store: str) -> None:
    storm(system, chances(f"F01 {store}"), {"max_retries": 20})
    verdict = judge(system)
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
        p99_recover=f"{recovery_p99(system):.1f}s",
    )
    assert verdict.lost == 0
    assert verdict.unexpected == 0
    assert verdict.ok == verdict.acked
    assert verdict.disorder == 0
    assert 0 < verdict.dup_exec <= BOUND, "the kills hit no run, or cost more than they can"


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
