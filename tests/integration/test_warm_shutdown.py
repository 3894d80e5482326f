"""A worker that is told to stop: its jobs may end within the grace, and the rest is given back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pytest

from portico_celery.ports.job_reader import JobRecord
from tests.integration.worker_process import POOLS, Journey, Worker, a_journey

GRACE = 2.0
# What a handler has to clean up in.
CLEANUP = 1.0
# What this machine may take longer than the workers would.
SLACK = 3.0
BACKLOG = 60
# Far beyond what the tests take: no job here comes back since its lease has run out.
LEASE = 120.0
SETTINGS = {"shutdown_grace": GRACE, "lease_seconds": LEASE, "sweep_seconds": 0.2, "knock_seconds": 2.0}


@dataclass(kw_only=True)
class Shutdown:
    """Workers of one pool that were told to stop in the middle of their jobs."""

    journey: Journey
    pool: str
    told_at: float = 0.0
    workers: dict[str, Worker] = field(default_factory=dict)
    jobs: dict[str, UUID] = field(default_factory=dict)
    backlog: list[UUID] = field(default_factory=list)

    def start(self, stack: ExitStack) -> None:
        """Start a worker for each kind of job; where a pool runs many jobs at once, one for all that await."""
        kinds = [["backlog"], ["blocking"]]
        awaiting = ["long", "short", "once"]
        kinds += [[kind] for kind in awaiting] if self.pool == "solo" else [awaiting]
        for together in kinds:
            queues = ",".join(self.queue(kind) for kind in together)
            concurrency = 1 if self.pool == "solo" else max(2, len(together))
            worker = self.journey.worker(self.pool, concurrency=concurrency, queues=queues)
            stack.callback(worker.kill)
            self.workers |= dict.fromkeys(together, worker)
        for worker in self.workers.values():
            worker.wait_until_ready()

    def queue(self, kind: str) -> str:
        """The queue of a kind of jobs."""
        name = f"{self.journey.queue_name}-{kind}"
        if name not in self.journey.other_queues:
            self.journey.other_queues.append(name)
        return name

    def begin_jobs(self) -> None:
        """Create the jobs, and wait until all have started."""
        hang, succeed = "journey.hang_at_its_first_start", "journey.succeed"
        self.jobs = {
            "long": self.journey.create(hang, queue_name=self.queue("long")),
            "short": self.journey.create(succeed, {"until": str(self.ended("short"))}, queue_name=self.queue("short")),
            "once": self.journey.create(
                succeed, {"until": str(self.ended("once"))}, queue_name=self.queue("once"), max_retries=0
            ),
            "blocking": self.journey.create(hang, {"blocks": True}, queue_name=self.queue("blocking")),
        }
        for kind in ("long", "once", "blocking"):
            self.journey.started(self.jobs[kind])
        self.backlog = [
            self.journey.create("journey.succeed", {"seconds": 0.2}, queue_name=self.queue("backlog"))
            for _ in range(BACKLOG)
        ]
        self.journey.started(self.backlog[0])
        self.journey.started(self.jobs["short"])

    def ended(self, kind: str) -> Path:
        """The file that ends a kind's job."""
        return self.journey.directory / f"{kind}-may-end"

    def tell(self) -> None:
        """Tell every worker to stop; the short job ends within the grace, and the other after it."""
        self.told_at = time.time()
        for worker in self.workers.values():
            os.kill(worker.pid, signal.SIGTERM)
        self.ended("short").touch()
        self.journey.eventually(lambda: time.time() > self.told_at + GRACE + CLEANUP, "the end of the grace")
        self.ended("once").touch()

    def record(self, kind: str) -> JobRecord:
        """Return the record of a kind's job in the end."""
        return self.journey.completed(self.jobs[kind])

    def stopped_after(self, kind: str) -> float:
        """How long after the signal the first attempt ended."""
        ended_at = self.record(kind).attempts[0].ended_at
        assert ended_at is not None
        return ended_at.timestamp() - self.told_at

    def starts(self, job_id: UUID) -> list[int]:
        """The retry counts that a job was started with."""
        return [line.retry_count for line in self.journey.ledger(job_id, "start")]


@pytest.fixture(scope="module", params=POOLS)
def shutdown(
    request: pytest.FixtureRequest, amqp_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shutdown]:
    directory = tmp_path_factory.mktemp(request.param)
    with a_journey(amqp_url, directory, **SETTINGS) as journey, ExitStack() as stack:
        shutdown = Shutdown(journey=journey, pool=request.param)
        shutdown.start(stack)
        shutdown.begin_jobs()
        shutdown.tell()
        for kind in ("long", "short", "once", "backlog"):
            worker = shutdown.workers[kind]
            journey.eventually(lambda worker=worker: not worker.running, f"the end of the worker of {kind}")  # type: ignore[misc]
        stack.enter_context(journey.worker("threads", concurrency=8, queues=",".join(journey.other_queues)))
        yield shutdown


def test_a_job_that_outlives_the_grace_is_given_back_and_completes_on_the_next_worker(shutdown: Shutdown) -> None:
    record = shutdown.record("long")

    first, second = record.attempts
    assert first.error == f"Released: {first.worker} gave it back in attempt 1"
    assert shutdown.workers["long"].name in first.worker
    assert second.worker != first.worker
    assert record.job.retry_count == 0
    assert shutdown.starts(record.job.id) == [0, 0]
    assert shutdown.journey.ledger(record.job.id, "on_failure") == []
    assert GRACE <= shutdown.stopped_after("long") < GRACE + CLEANUP + SLACK


def test_a_job_that_ends_within_the_grace_is_completed_by_its_worker(shutdown: Shutdown) -> None:
    record = shutdown.record("short")

    assert [shutdown.workers["short"].name in attempt.worker for attempt in record.attempts] == [True]
    assert shutdown.starts(record.job.id) == [0]


def test_a_job_that_may_start_but_once_runs_to_its_end(shutdown: Shutdown) -> None:
    record = shutdown.record("once")

    assert [shutdown.workers["once"].name in attempt.worker for attempt in record.attempts] == [True]
    assert shutdown.starts(record.job.id) == [0]
    assert record.job.completed_at is not None
    assert record.job.completed_at.timestamp() - shutdown.told_at > GRACE


def test_a_job_whose_handler_blocks_is_given_back_under_its_hands(shutdown: Shutdown) -> None:
    blocked, job_id = shutdown.workers["blocking"], shutdown.jobs["blocking"]
    shutdown.journey.eventually(lambda: shutdown.journey.record(job_id).attempts[0].ended_at, "the end of its attempt")
    assert blocked.running
    # As who runs it does in the end; until then it may keep what it has fetched, the knocks for this job as well.
    blocked.kill()

    record = shutdown.record("blocking")
    first, second = record.attempts
    assert blocked.name in first.worker
    assert str(first.error).startswith("Released: ")
    assert blocked.name not in second.worker
    assert record.job.retry_count == 0
    assert shutdown.starts(record.job.id) == [0, 0]
    assert GRACE + CLEANUP <= shutdown.stopped_after("blocking") < GRACE + CLEANUP + SLACK
    assert "event=job_given_back_while_it_runs" in blocked.log


def test_a_backlog_loses_nothing_and_spends_no_retry(shutdown: Shutdown) -> None:
    records = [shutdown.journey.completed(job_id) for job_id in shutdown.backlog]

    assert {record.job.retry_count for record in records} == {0}
    assert [shutdown.starts(job_id) for job_id in shutdown.backlog] == [[0]] * BACKLOG
    workers = {shutdown.workers["backlog"].name in record.attempts[-1].worker for record in records}
    assert workers == {True, False}, "the worker was not told in the middle of its backlog"


def test_a_worker_that_was_told_ends_well(shutdown: Shutdown) -> None:
    for kind in ("long", "short", "once", "backlog"):
        assert shutdown.workers[kind].log_tail.splitlines()[0].endswith("exit code 0):")
