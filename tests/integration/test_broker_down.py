"""A broker that is away or stands still delays no create, and loses no job."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from portico_celery.ports.job import JobStatus
from tests.integration.worker_process import Journey, a_journey
from tests.services import PrivateRabbitMQ

CREATES = 50
# Whoever waited for a broker would take longer: until it is back, or for one of the publisher's timeouts (5 s).
AT_ONCE_SECONDS = 4.0
# What a disk or a processor that others use may add to a create, by the median; a wait would be far longer.
SLACK = 0.1
# A worker tries to reconnect after 2, 4, 6 seconds.
RECOVERY_SECONDS = 40.0


@pytest.fixture
def node(private_rabbitmq: Callable[..., PrivateRabbitMQ]) -> PrivateRabbitMQ:
    return private_rabbitmq()


@pytest.fixture
def journey(node: PrivateRabbitMQ, tmp_path: Path) -> Iterator[Journey]:
    with a_journey(node.url, tmp_path, sweep_seconds=0.2, knock_seconds=2) as journey:
        yield journey


def create(journey: Journey, count: int) -> tuple[list[UUID], list[float]]:
    """Create jobs one after another; returns them, and how many seconds each took to create."""
    jobs, seconds = [], []
    for number in range(count):
        began = time.perf_counter()
        jobs.append(journey.create("journey.succeed", {"number": number}))
        seconds.append(time.perf_counter() - began)
    return jobs, seconds


def assert_stored(journey: Journey, jobs: list[UUID]) -> None:
    assert {journey.record(job_id).job.status for job_id in jobs} == {JobStatus.PENDING}


def test_creating_takes_no_longer_while_the_broker_is_down_and_the_jobs_run_when_it_is_back(
    node: PrivateRabbitMQ, journey: Journey
) -> None:
    create(journey, 1)  # whatever is made at first use
    with_broker, seconds_up = create(journey, CREATES)
    assert journey.portico.flush(5.0)

    node.kill()
    without_broker, seconds_down = create(journey, CREATES)
    assert_stored(journey, without_broker)
    assert not journey.portico.flush(0.1)
    assert statistics.median(seconds_down) <= 3 * statistics.median(seconds_up) + SLACK
    assert max(seconds_down) < AT_ONCE_SECONDS

    node.start()
    with journey.worker("threads"):
        for job_id in (*with_broker, *without_broker):
            journey.completed(job_id, RECOVERY_SECONDS)
    runs = [line.job_id for line in journey.ledger(kind="start")]
    assert len(runs) == len(set(runs)) == 1 + 2 * CREATES, journey.shown()


def test_a_worker_runs_each_job_once_that_was_created_while_its_broker_stood_still_or_was_down(
    node: PrivateRabbitMQ, journey: Journey
) -> None:
    with journey.worker("prefork") as worker:
        jobs, _seconds = create(journey, 1)
        journey.completed(jobs[0])

        node.freeze()
        frozen, seconds = create(journey, 10)
        assert_stored(journey, frozen)
        assert not journey.portico.flush(0.1)
        assert max(seconds) < AT_ONCE_SECONDS
        node.thaw()
        for job_id in frozen:
            journey.completed(job_id, RECOVERY_SECONDS)

        node.kill()
        down, _seconds = create(journey, 10)
        assert_stored(journey, down)
        node.start()
        for job_id in down:
            journey.completed(job_id, RECOVERY_SECONDS)
        assert worker.running

    runs = [line.job_id for line in journey.ledger(kind="start")]
    assert sorted(runs) == sorted(str(job_id) for job_id in (*jobs, *frozen, *down)), journey.shown()
