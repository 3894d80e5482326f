"""A job that is cancelled while it runs: its handler is stopped, and its worker goes on to the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from portico_celery.ports.job import JobStatus
from tests.integration.worker_process import POOLS, a_journey

# A run hears within a third of its lease that its job was cancelled.
SETTINGS = {"lease_seconds": 4.5, "sweep_seconds": 0.2}


@pytest.mark.parametrize("pool", POOLS)
def test_a_running_job_that_is_cancelled_makes_room_for_the_next(pool: str, amqp_url: str, tmp_path: Path) -> None:
    with a_journey(amqp_url, tmp_path, **SETTINGS) as journey, journey.worker(pool, concurrency=1) as worker:
        hanging = journey.create("journey.hang_at_first", max_retries=0)
        journey.started(hanging)
        following = journey.create("journey.succeed")

        assert journey.portico.sync.cancel_job(hanging, running=True)

        record = journey.completed(following)
        assert worker.name in record.attempts[0].worker
        cancelled = journey.record(hanging)
        assert (cancelled.job.status, cancelled.job.error_message) == (JobStatus.FAILED, "Job cancelled")
        assert cancelled.job.retry_count == 0
        assert len(journey.ledger(hanging, "start")) == 1
        assert journey.ledger(hanging, "on_failure") == []
