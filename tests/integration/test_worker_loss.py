"""What becomes of a job whose worker is killed, or seems to have gone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_reader import JobRecord
from tests.integration.worker_process import POOLS, Journey, Worker, a_journey

LEASE = 3.0
SETTINGS = {"lease_seconds": LEASE, "sweep_seconds": 0.2, "retry_base_delay": 0.5}


@dataclass(kw_only=True)
class Loss:
    """Two jobs whose worker was killed while it ran them: one that may be retried, and one that may not."""

    journey: Journey
    retryable: UUID
    forbidden: UUID
    killed: Worker
    survivor: Worker
    lost_pids: dict[UUID, int]

    def told(self, job_id: UUID) -> list[str]:
        """What the handler's on_failure was told of a job whose first run was lost."""
        lines = self.journey.eventually(
            lambda: self.journey.ledger(job_id, "on_failure"), f"on_failure for job {job_id}"
        )
        return [f"{line.retry_count} {line.detail}" for line in lines]


@pytest.fixture(scope="module", params=["prefork worker", "threads worker", "prefork children"])
def loss(request: pytest.FixtureRequest, amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loss]:
    pool, what = request.param.split()
    with ExitStack() as stack:
        journey = stack.enter_context(a_journey(amqp_url, tmp_path_factory.mktemp(what), **SETTINGS))
        worker = stack.enter_context(journey.worker(pool, concurrency=2))
        retryable = journey.create("journey.hang_at_first", max_retries=1)
        forbidden = journey.create("journey.hang_at_first", max_retries=0)
        lost_pids = {job_id: journey.started(job_id) for job_id in (retryable, forbidden)}
        if what == "worker":
            worker.kill()
            survivor = stack.enter_context(journey.worker(pool, concurrency=2))
        else:
            for pid in lost_pids.values():
                os.kill(pid, signal.SIGKILL)
            survivor = worker
        yield Loss(
            journey=journey,
            retryable=retryable,
            forbidden=forbidden,
            killed=worker,
            survivor=survivor,
            lost_pids=lost_pids,
        )


def runs(journey: Journey, job_id: UUID) -> list[int]:
    return [line.retry_count for line in journey.ledger(job_id, "start")]


def lasted(record: JobRecord, number: int) -> float:
    attempt = record.attempts[number - 1]
    assert attempt.ended_at is not None
    return (attempt.ended_at - attempt.started_at).total_seconds()


def test_a_job_runs_again_elsewhere_when_the_lease_of_its_lost_worker_is_over(loss: Loss) -> None:
    record = loss.journey.completed(loss.retryable)

    assert record.job.retry_count == 1
    assert runs(loss.journey, loss.retryable) == [0, 1]
    lost, again = record.attempts
    assert loss.killed.name in lost.worker
    assert str(lost.error).startswith("WorkerLost: ")
    assert lasted(record, 1) >= LEASE
    assert loss.survivor.name in again.worker
    assert again.worker != lost.worker
    assert again.error is None


def test_the_handler_hears_that_its_worker_was_lost_before_it_is_run_again(loss: Loss) -> None:
    loss.journey.completed(loss.retryable)

    assert [told.split(":")[0] for told in loss.told(loss.retryable)] == ["0 WorkerLost"]
    lines = loss.journey.ledger(loss.retryable)
    assert [(line.kind, line.retry_count) for line in lines] == [("start", 0), ("on_failure", 0), ("start", 1)]


def test_a_job_that_may_not_be_retried_is_not_run_twice_but_a_dead_letter_that_says_why(loss: Loss) -> None:
    record = loss.journey.ended(loss.forbidden)
    # It is told of the loss after it became a dead letter, and that is the last that may happen to it.
    loss.told(loss.forbidden)

    assert runs(loss.journey, loss.forbidden) == [0]
    assert (record.job.status, record.job.retry_count) == (JobStatus.DEAD_LETTER, 0)
    message = str(record.job.error_message)
    assert "lost" in message
    assert "outcome is unknown" in message
    assert loss.killed.name in message
    assert [attempt.error for attempt in record.attempts] == [message]
    assert lasted(record, 1) >= LEASE


def test_the_handler_of_a_dead_letter_hears_that_its_worker_was_lost(loss: Loss) -> None:
    told = loss.told(loss.forbidden)

    assert [words.split(":")[0] for words in told] == ["0 WorkerLost"]
    assert "outcome is unknown" in told[0]


def test_the_worker_that_survives_goes_on_with_other_jobs(loss: Loss) -> None:
    after = [loss.journey.create("journey.succeed") for _ in range(4)]

    records = [loss.journey.completed(job_id) for job_id in after]

    assert loss.survivor.running
    assert loss.survivor.pid not in loss.lost_pids.values()
    assert all(loss.survivor.name in record.attempts[0].worker for record in records)
    assert not {loss.journey.started(job_id) for job_id in after} & set(loss.lost_pids.values())


def test_a_job_whose_process_is_killed_at_celerys_time_limit_does_not_wait_for_its_lease(
    amqp_url: str, tmp_path: Path
) -> None:
    with a_journey(amqp_url, tmp_path, **{**SETTINGS, "lease_seconds": 3600}) as journey:
        journey.settings = {**journey.settings, "task_time_limit": 1}
        with journey.worker("prefork", concurrency=2):
            retryable = journey.create("journey.hang_at_first", max_retries=1)
            forbidden = journey.create("journey.hang_at_first", max_retries=0)

            assert journey.completed(retryable).job.retry_count == 1
            assert journey.ended(forbidden).job.status is JobStatus.DEAD_LETTER
            for job_id in (retryable, forbidden):
                told = journey.eventually(partial(journey.ledger, job_id, "on_failure"), "on_failure")
                assert [line.retry_count for line in told] == [0]
                assert told[0].detail.startswith("WorkerLost: ")
                assert "was killed at Celery's time limit of 1 s" in told[0].detail
            assert runs(journey, forbidden) == [0]


def test_a_handler_that_blocks_its_event_loop_keeps_its_job_in_every_pool(amqp_url: str, tmp_path: Path) -> None:
    with a_journey(amqp_url, tmp_path, **SETTINGS) as journey, ExitStack() as workers:
        queues = {pool: journey.another_queue() for pool in POOLS}
        started = [journey.worker(pool, queues=queue) for pool, queue in queues.items()]
        for worker in started:
            workers.enter_context(worker)
        jobs = {
            pool: journey.create("journey.block", {"seconds": 2 * LEASE}, max_retries=1, queue_name=queue)
            for pool, queue in queues.items()
        }

        records = {pool: journey.completed(job_id) for pool, job_id in jobs.items()}

        assert {pool: runs(journey, job_id) for pool, job_id in jobs.items()} == {pool: [0] for pool in POOLS}
        assert journey.ledger(kind="on_failure") == []
        for record in records.values():
            assert record.job.retry_count == 0
            assert lasted(record, 1) >= 2 * LEASE
        for worker in started:
            worker.kill()
