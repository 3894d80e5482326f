"""F18: jobs for later, with and without a broker that restarts and a worker that is killed meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.faults.conftest import Report
from tests.faults.ledger import percentile
from tests.faults.sizes import TIMEOUT, chances, size
from tests.faults.system import System, a_system
from tests.faults.verdict import judge
from tests.services import PrivateRabbitMQ
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(TIMEOUT)

JOBS = size(100, 2_000)
FIRST_SECONDS = 3.0
LAST_SECONDS = size(10.0, 60.0)


def create_delayed(system: System, name: str) -> dict[str, float]:
    """Create jobs, each with a time of its own; returns when each is due."""
    chance, now = chances(name), datetime.now(UTC)
    times = [now + timedelta(seconds=chance.uniform(FIRST_SECONDS, LAST_SECONDS)) for _ in range(JOBS)]
    jobs = system.create_all({"scheduled_at": time, "max_retries": 5} for time in times)
    assert system.portico.flush(10)
    assert system.waiting_messages() == 0, "a job for later is in the broker already"
    return {str(job_id): time.timestamp() for job_id, time in zip(jobs, times, strict=True)}


def figure(system: System, due: dict[str, float], faults: str, report: Report) -> None:
    system.wait_until_all_ended(LAST_SECONDS + 40)
    verdict = judge(system)
    firsts: dict[str, float] = {}
    for line in system.ledger.starts:
        firsts.setdefault(line.job_id, line.at)
    late = [at - due[job_id] for job_id, at in firsts.items()]
    early = sum(seconds < 0 for seconds in late)
    figures = {"ok": verdict.ok, "lost": verdict.lost, "dup_exec": verdict.dup_exec, "early": early}
    report("F18", faults=faults, jobs=JOBS, **figures, late_p99=f"{percentile(late, 0.99):.1f}s")
    assert early == 0
    assert (verdict.ok, verdict.lost, verdict.unexpected) == (JOBS, 0, 0)


def test_no_delayed_job_starts_early(broker_url: str, sqlite_store: str, tmp_path: Path, report: Report) -> None:
    with a_system(broker_url, sqlite_store, tmp_path) as system:
        due = create_delayed(system, "F18")
        system.workers.start("threads", 4)
        figure(system, due, "none", report)
        assert judge(system).dup_exec == 0


def test_delayed_jobs_run_though_the_broker_restarts_and_a_worker_is_killed(
    private_rabbitmq: Callable[..., PrivateRabbitMQ], sqlite_store: str, tmp_path: Path, report: Report
) -> None:
    node = private_rabbitmq()
    with a_system(node.url, sqlite_store, tmp_path) as system:
        due = create_delayed(system, "F18 faults")
        workers = [system.workers.start("threads", 2, ready=False) for _ in range(2)]
        eventually(lambda: system.ledger.starts, 30, system.shown)
        system.workers.kill(workers[0])
        node.kill()
        node.start()
        figure(system, due, "broker,worker", report)
