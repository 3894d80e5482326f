"""F22: workers are told to stop and replaced, one after the other, in the middle of their jobs."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from portico_celery.ports.job import Job
from portico_celery.ports.job_reader import Attempt
from tests.faults.conftest import Report
from tests.faults.sizes import TIMEOUT, chances, size
from tests.faults.system import System, a_system
from tests.faults.verdict import judge, stale_ends
from tests.faults.workers import Worker
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(TIMEOUT)

POOLS = ("prefork", "threads")
CONCURRENCY = 4
ROUNDS = size(1, 5)
SHORT_JOBS = size(60, 900)
#: As many again may start but once.
LONG_JOBS = size(2, 8)
GRACE = size(1.0, 2.0)
LONG_SECONDS = size(3.0, 10.0)
#: What a handler has to clean up in, before its job is taken from it.
CLEANUP = 1.0
#: What this machine may take longer. The fast size runs beside other tests, which tells nothing of how long it takes.
SLACK = size(5.0, 1.0)
DRAIN_SECONDS = size(40.0, 600.0)


@dataclass
class RollingRestart:
    """Replaces workers; keeps when each was told to stop."""

    system: System
    chances: random.Random
    told_at: dict[str, float] = field(default_factory=dict)
    long_jobs: dict[int, set[str]] = field(default_factory=lambda: {0: set(), 1: set()})
    _more_at: float = 0.0

    def run(self) -> None:
        """Restart each worker in turn, some rounds long, and let the last of them finish."""
        workers = {pool: self.system.workers.start(pool, CONCURRENCY, ready=False) for pool in POOLS}
        for worker in workers.values():
            worker.wait_until_ready()
        for _ in range(ROUNDS):
            for pool in POOLS:
                self._create_jobs()
                workers[pool] = self._replace(pool, workers[pool])
        self.system.wait_until_all_ended(DRAIN_SECONDS)
        for worker in workers.values():
            worker.stop()

    def _create_jobs(self) -> None:
        self.system.create_all(
            {"payload": {"seconds": self.chances.uniform(0.0, 0.1)}, "max_retries": self.chances.choice([0, 1, 3])}
            for _ in range(SHORT_JOBS)
        )
        self._create_long_jobs(LONG_JOBS)

    def _create_long_jobs(self, count: int) -> None:
        for max_retries, known in self.long_jobs.items():
            job = {"payload": {"seconds": LONG_SECONDS}, "max_retries": max_retries}
            known |= set(map(str, self.system.create_all([job] * count)))

    def _replace(self, pool: str, worker: Worker) -> Worker:
        eventually(lambda: self._is_caught(worker), LONG_SECONDS + 40, self.system.shown)
        self.told_at[worker.name] = time.time()
        os.kill(worker.pid, signal.SIGTERM)
        following = self.system.workers.start(pool, CONCURRENCY)
        eventually(lambda: not worker.running, LONG_SECONDS + 20, lambda: f"a worker that ends\n{worker.log_tail}")
        assert worker.log_tail.splitlines()[0].endswith("exit code 0):"), worker.log_tail
        return following

    def _is_caught(self, worker: Worker) -> bool:
        """Whether long jobs of both kinds have just begun in the worker; more are created where not."""
        pids, lately = {worker.pid, *worker.children}, time.time() - (LONG_SECONDS - GRACE) / 2
        starts = self.system.ledger.starts
        begun = {line.job_id for line in starts if line.pid in pids and line.at > lately}
        if all(begun & known for known in self.long_jobs.values()):
            return True
        # Never so many that they take up the workers.
        none_waits = {line.job_id for line in starts} >= set().union(*self.long_jobs.values())
        if none_waits and time.monotonic() > self._more_at:
            # One of each kind for each worker, since they take turns.
            self._create_long_jobs(len(POOLS))
            self._more_at = time.monotonic() + LONG_SECONDS / CONCURRENCY
        return False

    def outlived_the_grace(self, job: Job) -> bool:
        """Whether a job that may start but once went on for longer than the grace, and came to its end."""
        [attempt] = self.system.record(job.id).attempts
        return attempt.worker.partition("@")[0] in self.told_at and self.waited(attempt) > GRACE

    def waited(self, attempt: Attempt) -> float:
        """How long after its worker was told to stop an attempt ended."""
        assert attempt.ended_at is not None
        name = attempt.worker.partition("@")[0]
        return attempt.ended_at.timestamp() - self.told_at[name]


def test_workers_that_are_replaced_in_the_middle_of_their_jobs_spend_no_retry(
    broker_url: str, postgres_store: str, tmp_path: Path, report: Report
) -> None:
    with a_system(broker_url, postgres_store, tmp_path, shutdown_grace=GRACE, lease_seconds=30.0) as system:
        restarts = RollingRestart(system, chances("F22"))
        restarts.run()
        verdict, counts, refused = judge(system), system.ledger.start_counts(), stale_ends(system.ledger)
        jobs = system.jobs()
        again = {job_id: system.record(job_id).attempts for job_id, count in counts.items() if count > 1}
        released = [attempt for attempts in again.values() for attempt in attempts if attempt.error is not None]
        waits = [restarts.waited(attempt) for attempt in released]
        once = [job_id for job_id, job in jobs.items() if job.max_retries == 0]
        outlived = sum(restarts.outlived_the_grace(jobs[job_id]) for job_id in once)
        others = [str(each.error) for each in released if not str(each.error).startswith("Released: ")]
    report(
        "F22",
        acked=verdict.acked,
        ok=verdict.ok,
        lost=verdict.lost,
        unexpected=verdict.unexpected,
        restarts=len(restarts.told_at),
        released=len(released),
        retry_spent=sum(job.retry_count for job in jobs.values()),
        once=len(once),
        once_outlived_grace=outlived,
        once_max_starts=max(counts[job_id] for job_id in once),
        grace=f"{GRACE:.0f}s",
        released_within=f"{max(waits, default=0):.2f}s",
    )
    assert (verdict.ok, verdict.lost, verdict.unexpected) == (verdict.acked, 0, 0)
    assert {job.retry_count for job in jobs.values()} == {0}
    assert {counts[job_id] for job_id in once} == {1}
    assert outlived, "no worker had to wait for a job that may start but once"
    assert released, "no worker was told in the middle of a long job"
    assert others == []
    assert min(waits) >= GRACE
    assert max(waits) <= GRACE + CLEANUP + SLACK
    # Each further start follows a release, and none of the handlers came to an end twice.
    assert verdict.dup_exec <= len(released)
    assert refused == 0
