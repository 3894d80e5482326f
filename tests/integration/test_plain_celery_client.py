"""A plain Celery client, which knows nothing of us, sends tasks by their names: they become jobs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery

from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_reader import JobFilter, JobRecord
from tests.integration.worker_process import Journey, Worker, a_journey


@dataclass(kw_only=True)
class Plain:
    """A plain Celery app, and a worker of ours on two queues: one that the worker made, and one that it found."""

    app: Celery
    journey: Journey
    worker: Worker
    found_queue: str

    def send(self, job_type: str, queue: str | None = None, **options: Any) -> str:
        """Send a task as any Celery application does; returns its id."""
        return str(self.app.send_task(job_type, queue=queue or self.journey.queue_name, **options).id)

    def job(self, marker: str, queue: str | None = None) -> JobRecord:
        """Wait for the end of the job whose payload has a ``marker``."""

        def adopted() -> list[UUID]:
            page = self.journey.portico.sync.list_jobs(JobFilter(queue_name=queue or self.journey.queue_name))
            return [job.id for job in page.jobs if job.payload.get("marker") == marker]

        (job_id,) = self.journey.eventually(adopted, f"a job that is marked {marker}")
        return self.journey.ended(job_id)

    def runs(self, record: JobRecord) -> list[int]:
        return [line.retry_count for line in self.journey.ledger(record.job.id, "start")]


@pytest.fixture(scope="module")
def plain(amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plain]:
    directory = tmp_path_factory.mktemp("plain")
    with a_journey(amqp_url, directory, retry_base_delay=0.3, sweep_seconds=0.2) as journey:
        found_queue = journey.another_queue()
        with plain_app(amqp_url) as early:
            # Declares the queue as Celery does by default: without priorities.
            early.send_task("journey.succeed", kwargs={"marker": "early"}, queue=found_queue)
        with (
            journey.worker(queues=f"{journey.queue_name},{found_queue}") as worker,
            # What our queues are declared with, and a client has to declare them with too.
            plain_app(amqp_url, task_queue_max_priority=10) as app,
        ):
            yield Plain(app=app, journey=journey, worker=worker, found_queue=found_queue)


@contextmanager
def plain_app(amqp_url: str, **configuration: Any) -> Iterator[Celery]:
    app = Celery("plain", broker=amqp_url, set_as_current=False)
    app.conf.update(configuration)
    yield app
    app.close()


def test_keyword_arguments_become_the_payload_and_the_task_id_the_job_id(plain: Plain) -> None:
    task_id = plain.send("journey.succeed", kwargs={"marker": "kwargs", "recipient": "zsofia@example.org"}, priority=7)

    record = plain.job("kwargs")

    assert str(record.job.id) == task_id
    assert record.job.status is JobStatus.COMPLETED
    assert record.job.payload == {"marker": "kwargs", "recipient": "zsofia@example.org"}
    assert record.job.queue_name == plain.journey.queue_name
    assert record.job.priority == 7
    assert record.result_data == {"payload": record.job.payload}


def test_a_dict_as_the_only_argument_is_merged_under_the_keyword_arguments(plain: Plain) -> None:
    plain.send("journey.succeed", args=[{"marker": "args", "from": "args", "both": 1}], kwargs={"both": 2})

    record = plain.job("args")

    assert record.result_data == {"payload": {"marker": "args", "from": "args", "both": 2}}


def test_other_arguments_are_kept_as_a_list(plain: Plain) -> None:
    plain.send("journey.succeed", args=["a", 1], kwargs={"marker": "list"})

    record = plain.job("list")

    assert record.result_data == {"payload": {"marker": "list", "args": ["a", 1]}}


def test_a_date_becomes_text_and_the_jobs_beside_it_run_once(plain: Plain) -> None:
    plain.send("journey.succeed", kwargs={"marker": "beside-a-date"})
    plain.send("journey.succeed", kwargs={"marker": "a-date", "when": datetime(2026, 11, 22, tzinfo=UTC)})
    dated, beside = plain.job("a-date"), plain.job("beside-a-date")
    assert dated.job.payload["when"] == "2026-11-22T00:00:00+00:00"
    assert len(dated.attempts) == len(beside.attempts) == 1


def test_a_payload_may_have_a_key_named_self(plain: Plain) -> None:
    payload = {"marker": "self", "self": "me", "task": 1, "job": 2}
    plain.send("journey.succeed", kwargs=payload)

    record = plain.job("self")

    assert record.job.status is JobStatus.COMPLETED
    assert record.result_data == {"payload": payload}


def test_a_task_id_that_is_no_uuid_is_accepted(plain: Plain) -> None:
    plain.send("journey.succeed", kwargs={"marker": "named"}, task_id="order/17 of Zsófia")

    record = plain.job("named")

    assert record.job.status is JobStatus.COMPLETED
    assert plain.runs(record) == [0]


def test_a_job_that_was_adopted_is_retried_under_its_task_id(plain: Plain) -> None:
    plain.send("journey.raise", kwargs={"marker": "retried", "times": 2}, task_id="order-18")

    record = plain.job("retried")

    assert (record.job.status, record.job.retry_count) == (JobStatus.COMPLETED, 2)
    assert plain.runs(record) == [0, 1, 2]
    assert record.job.payload == {"marker": "retried", "times": 2}
    assert plain.worker.received("order-18") == 3
    assert plain.worker.received(record.job.id) == 0


@pytest.mark.parametrize("task_id", [str(uuid4()), "order-19"], ids=["uuid", "other"])
def test_a_message_that_is_delivered_twice_at_once_is_one_job(plain: Plain, task_id: str) -> None:
    marker = f"twice {task_id}"
    for _ in range(2):
        plain.send("journey.succeed", kwargs={"marker": marker, "seconds": 1}, task_id=task_id)
    plain.journey.eventually(lambda: plain.worker.received(task_id) == 2, "both deliveries")
    # The worker has two processes: this one is run after the second delivery, beside the first, which takes its time.
    plain.send("journey.succeed", kwargs={"marker": f"after {marker}"})
    plain.job(f"after {marker}")

    record = plain.job(marker)

    assert record.job.status is JobStatus.COMPLETED
    assert plain.runs(record) == [0]
    assert [attempt.number for attempt in record.attempts] == [1]


def test_a_message_that_is_sent_again_after_the_end_of_its_job_changes_nothing(plain: Plain) -> None:
    task_id = plain.send("journey.succeed", kwargs={"marker": "ended"})
    ended = plain.job("ended")

    plain.send("journey.succeed", kwargs={"marker": "ended"}, task_id=task_id)
    plain.journey.eventually(lambda: f"[{task_id}] ignored" in plain.worker.log, "the end of the second message")

    assert plain.job("ended") == ended
    assert plain.runs(ended) == [0]


def test_the_queue_of_a_plain_client_is_used_as_it_is_found(plain: Plain) -> None:
    early = plain.job("early", plain.found_queue)
    # Knocks go to that queue as well: of a job of ours, and of its retry.
    job_id = plain.journey.create("journey.raise", {"times": 1}, queue_name=plain.found_queue)

    record = plain.journey.completed(job_id)

    assert early.job.status is JobStatus.COMPLETED
    assert record.job.retry_count == 1
