"""``control.revoke`` cancels the row of a job: so it holds for every worker, and for as long as nobody requeues it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery

from portico_celery.adapters.celery.knock import adopted_job_id
from portico_celery.ports.job import JobStatus
from tests.integration.worker_process import POOLS, Journey, a_journey

# No job is retried, or taken for lost, before a revoke has come: also where the machine stands still for a moment.
SETTINGS = {"retry_base_delay": 4.0, "retry_jitter": 0.0, "sweep_seconds": 0.2, "lease_seconds": 3.0}


@pytest.fixture(scope="module")
def journey(amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    with a_journey(amqp_url, tmp_path_factory.mktemp("revoke"), **SETTINGS) as journey, journey.worker():
        yield journey


@pytest.fixture(scope="module")
def client(amqp_url: str) -> Iterator[Celery]:
    """A plain Celery app: it knows nothing of us."""
    app = Celery("plain", broker=amqp_url, set_as_current=False)
    app.conf.task_queue_max_priority = 10
    yield app
    app.close()


def revoke(client: Celery, task_id: object, **arguments: Any) -> None:
    control: Any = client.control
    # With a reply, so that a worker has seen it when this returns.
    assert control.revoke(str(task_id), reply=True, timeout=20, limit=1, **arguments)


def assert_cancelled(journey: Journey, job_id: UUID) -> None:
    job = journey.ended(job_id).job
    assert (job.status, job.error_message) == (JobStatus.FAILED, "Job cancelled")


def test_a_scheduled_job_is_cancelled(journey: Journey, client: Celery) -> None:
    job_id = journey.create("journey.succeed", scheduled_at=datetime.now(UTC) + timedelta(hours=1))

    revoke(client, job_id)

    assert_cancelled(journey, job_id)


def test_a_job_that_waits_in_a_queue_of_other_workers_is_cancelled(journey: Journey, client: Celery) -> None:
    queue_name = journey.another_queue()
    job_id = journey.create("journey.succeed", queue_name=queue_name)

    revoke(client, job_id)

    assert_cancelled(journey, job_id)
    # A worker that was not there to hear of it takes the message, and runs nothing.
    with journey.worker(queues=queue_name) as late:
        journey.eventually(lambda: f"[{job_id}] ignored" in late.log, "the end of the message")
    assert journey.ledger(job_id, "start") == []


def test_a_plain_clients_job_that_waits_for_its_retry_is_cancelled_by_its_task_id(
    journey: Journey, client: Celery
) -> None:
    task_id = f"order/{uuid4()}"
    client.send_task("journey.raise", task_id=task_id, queue=journey.queue_name)
    job_id = adopted_job_id(task_id)

    def retrying() -> bool:
        record = journey.portico.sync.get_record(job_id)
        return record is not None and record.job.status is JobStatus.RETRYING

    journey.eventually(retrying, "a job that waits for its retry")
    revoke(client, task_id)

    assert_cancelled(journey, job_id)


@pytest.mark.parametrize("pool", POOLS)
def test_a_running_job_is_stopped_by_terminate_in_every_pool(
    pool: str, amqp_url: str, client: Celery, tmp_path: Path
) -> None:
    with a_journey(amqp_url, tmp_path, **SETTINGS) as journey, journey.worker(pool, concurrency=1):
        job_id = journey.create("journey.succeed", {"seconds": 60})
        pid = journey.started(job_id)
        if pool == "solo":
            # Its only thread runs the job, and hears of nothing meanwhile: another worker does.
            with journey.worker("threads", queues=journey.another_queue()):
                revoke(client, job_id, terminate=True)
        else:
            revoke(client, job_id, terminate=True)

        assert_cancelled(journey, job_id)
        following = journey.create("journey.succeed")
        journey.completed(following)
        assert journey.started(following) == pid


def test_the_command_terminate_does_as_revoke_does(journey: Journey, client: Celery) -> None:
    job_id = journey.create("journey.succeed", {"seconds": 60})
    pid = journey.started(job_id)

    # What ``celery control terminate SIGTERM <id>`` sends.
    arguments = {"signal": "SIGTERM", "task_id": str(job_id)}
    client.control.broadcast("terminate", arguments=arguments, reply=True, timeout=20, limit=1)

    assert_cancelled(journey, job_id)
    assert Path(f"/proc/{pid}").exists()
    journey.completed(journey.create("journey.succeed"))


def test_terminate_by_sigkill_ends_the_process_of_a_handler_that_blocks(journey: Journey, client: Celery) -> None:
    job_id = journey.create("journey.block", {"seconds": 60})
    pid = journey.started(job_id)

    revoke(client, job_id, terminate=True, signal="SIGKILL")

    assert_cancelled(journey, job_id)
    journey.eventually(lambda: not Path(f"/proc/{pid}").exists(), "the end of its process")


def test_a_running_job_goes_on_where_terminate_is_not_asked_for_and_so_does_its_retry(
    journey: Journey, client: Celery
) -> None:
    job_id = journey.create("journey.hang_at_its_first_start")
    pid = journey.started(job_id)

    revoke(client, job_id)
    assert journey.record(job_id).job.status is JobStatus.RUNNING
    os.kill(pid, signal.SIGKILL)

    assert journey.completed(job_id).job.retry_count == 1


def test_a_job_that_was_revoked_and_is_requeued_runs_on_the_worker_that_revoked_it(
    journey: Journey, client: Celery
) -> None:
    job_id = journey.create("journey.succeed", scheduled_at=datetime.now(UTC) + timedelta(hours=1))
    revoke(client, job_id)
    assert_cancelled(journey, job_id)

    assert journey.portico.sync.requeue_job(job_id)

    journey.completed(job_id)


def test_a_plain_clients_message_that_is_no_job_yet_is_discarded_as_ever(journey: Journey, client: Celery) -> None:
    queue_name = journey.another_queue()
    with journey.worker(queues=queue_name) as worker:
        task_id = client.send_task("journey.succeed", queue=queue_name, countdown=5).id
        journey.eventually(lambda: worker.received(task_id), "the message")

        revoke(client, task_id)

        journey.eventually(lambda: f"Discarding revoked task: journey.succeed[{task_id}]" in worker.log, "its end")
    assert journey.portico.sync.get_record(adopted_job_id(task_id)) is None
