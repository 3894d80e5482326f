"""F29: the store stands still for longer than a lease, while jobs run and end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import Report
from tests.faults.sizes import LEASE, TIMEOUT, size
from tests.faults.system import a_system
from tests.faults.verdict import judge
from tests.services import PrivateRedis
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(TIMEOUT)

JOBS = 8
OUTAGES = size(1, 10)


def test_workers_that_live_keep_their_jobs_and_record_how_they_ended(
    broker_url: str, private_redis: Callable[..., PrivateRedis], tmp_path: Path, report: Report
) -> None:
    server = private_redis()
    with a_system(broker_url, server.url, tmp_path) as system:
        for pool in ("threads", "prefork"):
            system.workers.start(pool, JOBS // 2, ready=False)
        for _ in range(OUTAGES):
            before = len(system.ledger.starts)
            # Half of them end during the outage, half after it.
            system.create_all([{"payload": {"seconds": seconds}, "max_retries": 0} for seconds in (1.5, 8.0) * 4])
            eventually(lambda before=before: len(system.ledger.starts) == before + JOBS, 30, "jobs that run")  # type: ignore[misc]
            server.freeze()
            until = time.monotonic() + 2 * LEASE
            eventually(lambda until=until: time.monotonic() > until, 60)  # type: ignore[misc]
            server.thaw()
            system.wait_until_all_ended(60)
        verdict = judge(system)
    report(
        "F29",
        store="redis",
        outages=OUTAGES,
        of=f"{2 * LEASE:.0f}s",
        ok=verdict.ok,
        lost=verdict.lost,
        unexpected=verdict.unexpected,
        max_starts=verdict.max_starts,
    )
    assert (verdict.ok, verdict.lost, verdict.unexpected, verdict.max_starts) == (OUTAGES * JOBS, 0, 0, 1)
