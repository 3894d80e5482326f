"""F28: callers of dequeue and Celery workers share a queue: each job starts once, and the more urgent ones first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.faults.conftest import Report
from tests.faults.pullers import start_puller
from tests.faults.sizes import TIMEOUT, chances, size
from tests.faults.system import System, a_system
from tests.faults.verdict import judge
from tests.faults.workers import Worker
from tests.services import PrivateRedis

pytestmark = pytest.mark.timeout(TIMEOUT)

#: So many that those who are ready first don't do them all.
JOBS = size(1_000, 5_000)
CALLERS = size(40, 200)
WORKERS = size(2, 4)
THREADS = 2
#: Celery's default: what each thread of a worker may have in hand, its own job included.
PREFETCHED = 4
SECONDS = size(60.0, 300.0)


def most_overtaken(priorities: Sequence[int]) -> int:
    """Return how many more urgent jobs started after one, at most; ``priorities`` are in the order of the starts."""
    worst, later = 0, Counter[int]()
    for priority in reversed(priorities):
        worst = max(worst, sum(count for other, count in later.items() if other > priority))
        later[priority] += 1
    return worst


@pytest.fixture(params=["rabbitmq", "redis"])
def broker(request: pytest.FixtureRequest) -> Callable[[], str]:
    if request.param == "redis":
        servers: Callable[[], PrivateRedis] = request.getfixturevalue("private_redis")
        return lambda: servers().url
    return lambda: str(request.getfixturevalue("broker_url"))


def start_all(system: System) -> int:
    """Start all who take jobs; returns the process of the callers."""
    takers: list[Worker] = [start_puller(system, CALLERS, ready=False)]
    takers += [system.workers.start("threads", THREADS, ready=False) for _ in range(WORKERS)]
    for taker in takers:
        taker.wait_until_ready()
    return takers[0].pid


def test_each_job_starts_once_and_by_priority(
    broker: Callable[[], str], postgres_store: str, tmp_path: Path, report: Report
) -> None:
    chance = chances("F28")
    url = broker()
    # The steps that both brokers tell apart.
    steps = (0, 3, 6, 9)
    with a_system(url, postgres_store, tmp_path) as system:
        system.create_all({"priority": chance.choice(steps), "payload": {"seconds": 0.02}} for _ in range(JOBS))
        assert system.portico.flush(SECONDS)
        puller_pid = start_all(system)
        system.wait_until_all_ended(SECONDS)
        verdict = judge(system)
        jobs, starts = system.jobs(), system.ledger.starts
    overtaken = most_overtaken([jobs[line.job_id].priority for line in sorted(starts, key=lambda line: line.at)])
    pulled = sum(line.pid == puller_pid for line in starts)
    in_hand = CALLERS + WORKERS * THREADS * PREFETCHED
    report(
        "F28",
        broker=url.partition(":")[0],
        jobs=JOBS,
        callers=CALLERS,
        workers=WORKERS,
        ok=verdict.ok,
        lost=verdict.lost,
        unexpected=verdict.unexpected,
        dup_exec=verdict.dup_exec,
        pulled=pulled,
        pushed=JOBS - pulled,
        most_overtaken=overtaken,
        bound=in_hand,
    )
    assert (verdict.ok, verdict.lost, verdict.unexpected, verdict.dup_exec) == (JOBS, 0, 0, 0)
    assert 0 < pulled < JOBS, "one kind of them did nothing"
    # Whatever is more urgent and has not started is in somebody's hand.
    assert overtaken <= in_hand
