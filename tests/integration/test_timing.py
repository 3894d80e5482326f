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
from portico_celery.ports.job_reader import JobRecord
from tests.integration.worker_process import a_journey

logger = logging.getLogger(__name__)

JOBS = 20
RETRY_DELAY = 1.0
# Of a job that was stored at least a second ahead, on a system that has nothing else to do.
SOON = 0.3
# The share of jobs that must start soon; the others are the machine's to explain, which may stand still for a moment.
# Of jobs that started at the sweep's own beat, one in three would.
MOST = 0.6
# Seconds from one job to the next: no such moment holds up many of them, nor does any hide behind the sweep's own beat.
APART = 0.37
# How far ahead the first one is stored, and what storing all of them may take of that.
AHEAD, STORING = 5.0, 4.0


@pytest.fixture(scope="module")
def records(amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[JobRecord]]:
    """Jobs that were scheduled, failed once and were retried, by a worker that had nothing else to do."""
    # The worker sweeps as often as it does by default; the backoff is without chance.
    settings = {"retry_base_delay": RETRY_DELAY, "retry_jitter": 0}
    with a_journey(amqp_url, tmp_path_factory.mktemp("timing"), **settings) as journey, journey.worker():
        first = datetime.now(UTC) + timedelta(seconds=AHEAD)
        times = [first + timedelta(seconds=APART * number) for number in range(JOBS)]
        jobs = [journey.create("journey.raise", {"times": 1}, max_retries=1, scheduled_at=time) for time in times]
        late = first - timedelta(seconds=AHEAD - STORING)
        assert datetime.now(UTC) < late, "storing the jobs took too long for this test"
        stored = [journey.record(job_id).job for job_id in jobs]
        assert [(job.status, job.scheduled_at) for job in stored] == [(JobStatus.SCHEDULED, time) for time in times]
        yield [journey.completed(job_id) for job_id in jobs]


def check(delays: Sequence[timedelta]) -> None:
    """``delays`` are from when each job might start to when it did."""
    ordered = sorted(delay.total_seconds() for delay in delays)
    soon = sum(delay <= SOON for delay in ordered)
    report = f"of {len(ordered)}: median {statistics.median(ordered):.3f} s, worst {ordered[-1]:.3f} s, {soon} soon"
    logger.info(report)
    assert len(ordered) == JOBS
    assert ordered[0] >= 0, f"started {-ordered[0]:.6f} s too early; {report}"
    assert statistics.median(ordered) <= SOON, report
    assert soon >= MOST * JOBS, f"{report}: {ordered}"


def test_a_scheduled_job_starts_at_its_time(records: list[JobRecord]) -> None:
    check([record.attempts[0].started_at - known(record.job.scheduled_at) for record in records])


def test_a_retried_job_starts_when_its_backoff_is_over(records: list[JobRecord]) -> None:
    delay = timedelta(seconds=RETRY_DELAY)
    check([retry.started_at - known(run.ended_at) - delay for run, retry in (record.attempts for record in records)])


def known(moment: datetime | None) -> datetime:
    assert moment is not None
    return moment
