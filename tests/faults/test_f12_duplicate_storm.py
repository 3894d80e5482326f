"""F12: every knock comes three times, and old ones of finished jobs come again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection

from portico_celery.adapters.celery.knock import knock_message
from portico_celery.ports.job import Job
from portico_celery.ports.job_store import Knock
from tests.faults.conftest import Report
from tests.faults.sizes import TIMEOUT, chances, size
from tests.faults.system import System, a_system
from tests.faults.verdict import judge
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(TIMEOUT)

JOBS = size(200, 2_000)
REPLAYED = size(100, 1_000)
SECONDS = size(30.0, 120.0)


def knock(system: System, jobs: Iterable[Job]) -> None:
    """Publish knocks as the product writes them, past its publisher, which would not send one twice."""
    with Connection(system.broker_url, transport_options={"confirm_publish": True}) as connection:
        producer: Any = connection.Producer(auto_declare=False)
        for job in jobs:
            message = knock_message(Knock(job=job), redact=())
            producer.publish(
                message.body,
                routing_key=message.queue_name,
                headers=message.headers,
                content_type="application/json",
                content_encoding="utf-8",
                correlation_id=message.task_id,
                delivery_mode=2,
            )


def test_each_job_runs_once_however_often_it_is_knocked_for(
    broker_url: str, sqlite_store: str, tmp_path: Path, report: Report
) -> None:
    with a_system(broker_url, sqlite_store, tmp_path) as system:
        system.create_all([{}] * JOBS)
        assert system.portico.flush(60)
        jobs = list(system.jobs().values())
        copies = [*jobs, *jobs]
        chances("F12").shuffle(copies)
        knock(system, copies)
        assert system.waiting_messages() == 3 * JOBS

        pair = [system.workers.start(pool, 2, ready=False) for pool in ("prefork", "threads")]
        system.wait_until_all_ended(SECONDS)
        finished = system.jobs()
        knock(system, [finished[str(job.id)] for job in jobs[:REPLAYED]])
        eventually(lambda: system.waiting_messages() == 0, SECONDS, "an empty queue")
        for worker in pair:
            worker.stop()  # at leisure: what it has taken, it finishes
        assert system.waiting_messages() == 0
        verdict = judge(system)
        unchanged = system.jobs() == finished
    report(
        "F12",
        jobs=JOBS,
        starts=verdict.starts,
        dup_dropped=3 * JOBS + REPLAYED - verdict.starts,
        lost=verdict.lost,
        unexpected=verdict.unexpected,
        finished_stay_finished=unchanged,
    )
    assert (verdict.ok, verdict.lost, verdict.unexpected, verdict.starts) == (JOBS, 0, 0, JOBS)
    assert unchanged
