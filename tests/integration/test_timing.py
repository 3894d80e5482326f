"""Scheduled and retried jobs start at their time: never before it, and soon after it.

All times are the store's own: when a job may start is what it was told, when it did start is what it noted.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from portico_celery.ports.job import JobStatus
from tests.integration.worker_process import Journey, a_journey

logger = logging.getLogger(__name__)

JOBS = 20
RETRY_DELAY = 1.0
# Of a job that was stored at least a second ahead, on a system that has nothing else to do.
SOON = 0.3
# The share of jobs that must start soon; the others are the machine's to explain.
MOST = 0.9


@pytest.fixture(scope="module")
def journey(amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    """An idle worker, which sweeps as often as it does by default; the backoff is without chance."""
    settings = {"retry_base_delay": RETRY_DELAY, "retry_jitter": 0}
    with a_journey(amqp_url, tmp_path_factory.mktemp("timing"), **settings) as journey, journey.worker():
        yield journey


def check(delays: Sequence[float]) -> None:
    """``delays`` are the seconds from when a job might start to when it did."""
    ordered = sorted(delays)
    soon = sum(delay <= SOON for delay in ordered)
    report = f"of {len(ordered)}: median {statistics.median(ordered):.3f} s, worst {ordered[-1]:.3f} s, {soon} soon"
    logger.info(report)
    assert ordered[0] >= 0, f"started {-ordered[0]:.6f} s too early; {report}"
    assert statistics.median(ordered) <= SOON, report
    assert soon >= MOST * len(ordered), f"{report}: {ordered}"


def test_a_scheduled_job_starts_at_its_time(journey: Journey) -> None:
    first = datetime.now(UTC) + timedelta(seconds=1.5)
    # Spread over all parts of a second, so that none can hide behind the sweep's own beat.
    times = [first + timedelta(seconds=0.17 * number) for number in range(JOBS)]
    jobs = [journey.create("journey.succeed", scheduled_at=time) for time in times]
    assert datetime.now(UTC) < first - timedelta(seconds=1), "storing the jobs took too long for this test"
    assert {journey.record(job_id).job.status for job_id in jobs} == {JobStatus.SCHEDULED}

    records = [journey.completed(job_id) for job_id in jobs]

    assert [record.job.scheduled_at for record in records] == times
    check([(record.attempts[0].started_at - time).total_seconds() for record, time in zip(records, times, strict=True)])


def test_a_retried_job_starts_when_its_backoff_is_over(journey: Journey) -> None:
    jobs = [journey.create("journey.raise", {"times": 1}, max_retries=1) for _ in range(JOBS)]

    records = [journey.completed(job_id) for job_id in jobs]

    delays = []
    for record in records:
        failed, retried = record.attempts
        assert failed.ended_at is not None
        delays.append((retried.started_at - failed.ended_at).total_seconds() - RETRY_DELAY)
    check(delays)
