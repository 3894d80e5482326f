"""A worker meets a job, or a task, that it has no handler for: while a deployment rolls, or for good."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery
from kombu import Connection, Exchange, Queue

from portico_celery import PorticoCelery
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_reader import JobRecord
from tests.integration.small_app import SmallApp
from tests.integration.test_celery_events import Watcher
from tests.integration.worker_process import Worker
from tests.waiting import eventually

SECONDS = 30.0
PARKED = "portico.parked"
REASON = "portico-parked-reason"

SOURCE = """
from pathlib import Path

from celery import Celery, signals
from portico_celery import PorticoCelery
from portico_celery.ports.job import JobResult

class Handler:
    def __init__(self, job_type):
        self.job_type = job_type
    async def handle(self, job):
        with open({ledger!r}, "a") as ledger:
            ledger.write(f"start {{job.id}}\\n")
        return JobResult(success=True)
    async def on_failure(self, job, error):
        with open({ledger!r}, "a") as ledger:
            ledger.write(f"failure {{job.id}}\\n")

@signals.task_unknown.connect
def on_task_unknown(name, id, **_kwargs):
    with open({ledger!r}, "a") as ledger:
        ledger.write(f"unknown {{id}} {{name}}\\n")

app = Celery("rolling", broker={broker!r})
app.conf.update(portico_sweep_seconds=0.2, portico_unknown_job_type_seconds={patience!r})
portico = PorticoCelery(app, store={store!r})
for job_type in {handled!r}:
    portico.register(Handler(job_type))
for job_type in {declared!r}:
    portico.declare(job_type)
for name in {tasks!r}:
    @app.task(name=name)
    def ordinary():
        with open({ledger!r}, "a") as ledger:
            ledger.write("ran with nothing\\n")
"""


@dataclass(kw_only=True)
class Rollout:
    """Workers of different versions, and a client that is up to date."""

    directory: Path
    broker_url: str
    queue_name: str
    portico: PorticoCelery
    workers: list[Worker] = field(default_factory=list)

    @property
    def store_url(self) -> str:
        return f"sqlite:///{self.directory / 'jobs.db'}"

    def worker(
        self,
        *handled: str,
        declared: tuple[str, ...] = (),
        tasks: tuple[str, ...] = (),
        pool: str = "threads",
        patience: float = 900.0,
    ) -> Worker:
        """Start a worker that has handlers for some job types; as a context manager it is ready."""
        source = SOURCE.format(
            ledger=str(self.directory / "ledger"),
            broker=self.broker_url,
            store=self.store_url,
            patience=patience,
            handled=handled,
            declared=declared,
            tasks=tasks,
        )
        worker = SmallApp(self.directory, source).worker("-P", pool, "-c", "1", "-Q", self.queue_name, "-E")
        self.workers.append(worker)
        return worker

    def create(self, job_type: str, **options: Any) -> UUID:
        """Create a job."""
        self.portico.declare(job_type, queue=self.queue_name)
        return self.portico.sync.create_job(job_type, {}, **options).id

    def record(self, job_id: UUID) -> JobRecord:
        """Return what the store knows of a job."""
        record = self.portico.sync.get_record(job_id)
        assert record is not None
        return record

    def wait_until_met(self, job_id: UUID) -> JobRecord:
        """Return the record of a job when a worker without its handler has put it back."""
        self.eventually(
            lambda: str(self.record(job_id).job.error_message).startswith("NoHandler: "), f"{job_id} is put back"
        )
        return self.record(job_id)

    def wait_until(self, job_id: UUID, status: JobStatus) -> JobRecord:
        """Return the record of a job when it has a status."""
        self.eventually(lambda: self.record(job_id).job.status is status, f"{status} of {job_id}")
        return self.record(job_id)

    def told(self) -> list[str]:
        """Return what handlers and signals have noted."""
        path = self.directory / "ledger"
        return path.read_text().splitlines() if path.exists() else []

    def eventually(self, predicate: Any, what: str) -> None:
        """Wait; where that fails, tell the logs."""
        eventually(predicate, SECONDS, lambda: "\n".join([what, *(worker.log_tail for worker in self.workers)]))


@pytest.fixture
def rollout(amqp_url: str, tmp_path: Path) -> Iterator[Rollout]:
    app = Celery("client", broker=amqp_url, set_as_current=False)
    queue_name = f"portico-test-{uuid4().hex}"
    portico = PorticoCelery(app, store=f"sqlite:///{tmp_path / 'jobs.db'}")
    try:
        yield Rollout(directory=tmp_path, broker_url=amqp_url, queue_name=queue_name, portico=portico)
    finally:
        portico.close()
        app.close()
        with Connection(amqp_url) as connection:
            Queue(queue_name, channel=connection.default_channel).delete()
            Exchange(queue_name, channel=connection.default_channel).delete()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_job_that_only_new_workers_know_waits_for_the_first_of_them(pool: str, rollout: Rollout) -> None:
    with rollout.worker("report.daily", pool=pool):
        old = rollout.create("report.daily")
        jobs = [rollout.create("report.weekly"), rollout.create("report.weekly", max_retries=0)]
        rollout.wait_until(old, JobStatus.COMPLETED)
        for job_id in jobs:
            record = rollout.wait_until_met(job_id)
            assert rollout.workers[0].name in str(record.job.error_message)
            assert (record.job.status, record.attempts) == (JobStatus.PENDING, ())
        with rollout.worker("report.daily", "report.weekly", pool=pool) as new:
            rollout.workers[0].stop()
            records = [rollout.wait_until(job_id, JobStatus.COMPLETED) for job_id in jobs]

    for record in records:
        assert record.job.retry_count == 0
        [attempt] = record.attempts
        assert (attempt.number, attempt.error) == (1, None)
        assert new.name in attempt.worker
    assert sorted(rollout.told()) == sorted(f"start {job_id}" for job_id in (old, *jobs))


def test_a_job_that_no_worker_knows_is_a_dead_letter_and_may_be_requeued(rollout: Rollout) -> None:
    # Long enough for this process to see that the job was put back, before it is a dead letter.
    with rollout.worker("report.daily", patience=3.0):
        job_id = rollout.create("report.weekly")
        record = rollout.wait_until(job_id, JobStatus.DEAD_LETTER)
        assert str(record.job.error_message).startswith("UnknownJobType: no worker that met the job in ")
        assert (record.job.retry_count, record.job.failed_at is None) == (0, False)
        assert record.attempts == ()

        assert rollout.portico.sync.requeue_job(job_id)
        # It waits again, rather than be a dead letter at once.
        assert rollout.wait_until_met(job_id).job.status is JobStatus.PENDING
    with rollout.worker("report.weekly"):
        rollout.wait_until(job_id, JobStatus.COMPLETED)
    assert rollout.told() == [f"start {job_id}"]


def test_a_job_type_that_a_worker_has_but_declared_waits_as_well(rollout: Rollout) -> None:
    with rollout.worker(declared=("report.weekly",)):
        job_id = rollout.create("report.weekly", max_retries=0)
        assert rollout.wait_until_met(job_id).attempts == ()
    with rollout.worker("report.weekly"):
        assert rollout.wait_until(job_id, JobStatus.COMPLETED).job.retry_count == 0
    assert rollout.told() == [f"start {job_id}"]


def test_a_job_whose_type_is_an_ordinary_task_of_the_worker_is_put_back_and_the_task_is_not_run(
    rollout: Rollout,
) -> None:
    with rollout.worker("report.daily", tasks=("shop.charge",)):
        job_id = rollout.create("shop.charge", max_retries=0)
        assert rollout.wait_until_met(job_id).attempts == ()
        done = rollout.create("report.daily")
        rollout.wait_until(done, JobStatus.COMPLETED)
    assert rollout.told() == [f"start {done}"]


def test_many_jobs_that_a_worker_does_not_know_do_not_hold_up_those_it_knows(rollout: Rollout) -> None:
    unknown = [rollout.create("report.weekly", max_retries=0) for _ in range(200)]
    known = [rollout.create("report.daily", priority=-1) for _ in range(10)]
    assert rollout.portico.flush(SECONDS)
    with rollout.worker("report.daily") as worker:
        for job_id in known:
            rollout.wait_until(job_id, JobStatus.COMPLETED)
        records = [rollout.wait_until_met(job_id) for job_id in unknown]
        told = worker.log.count("unknown_job_type")
    assert {record.job.status for record in records} == {JobStatus.PENDING}
    assert {record.attempts for record in records} == {()}
    assert 1 <= told < 20
    with rollout.worker("report.weekly"):
        for job_id in unknown:
            rollout.wait_until(job_id, JobStatus.COMPLETED)
    assert sorted(rollout.told()) == sorted(f"start {job_id}" for job_id in (*known, *unknown))


def parked_message(rollout: Rollout, task_id: str) -> Any:
    """Wait for a message to be parked, and take it; those of other tests are left where they are."""
    with Connection(rollout.broker_url) as connection:
        queue = Queue(PARKED, channel=connection.default_channel)
        found: list[Any] = []

        def there() -> bool:
            others = []
            while (message := queue.get()) is not None:
                if message.headers.get("id") == task_id:
                    message.ack()
                    found.append(message)
                else:
                    others.append(message)
            # At once, as somebody may look for them, who has ours in hand.
            for message in others:
                message.requeue()
            return bool(found)

        rollout.eventually(there, f"the parked message of {task_id}")
        return found[0]


def test_a_plain_message_for_a_task_that_nobody_knows_is_parked_and_told_of_as_celery_does(rollout: Rollout) -> None:
    app = Celery("plain", broker=rollout.broker_url, set_as_current=False)
    app.conf.task_queue_max_priority = 10  # as the queue has it
    task_id = str(uuid4())
    with Watcher(app) as watcher, rollout.worker("report.daily") as worker:
        app.send_task("nobody.knows", args=[1], kwargs={"two": 2}, task_id=task_id, queue=rollout.queue_name)
        message = parked_message(rollout, task_id)
        rollout.eventually(lambda: "task-failed" in watcher.types(task_id), "the event")
        done = rollout.create("report.daily")
        rollout.wait_until(done, JobStatus.COMPLETED)
        assert worker.running
    app.close()

    assert message.headers[REASON] == "no such task here: 'nobody.knows'"
    assert message.headers["task"] == "nobody.knows"
    assert message.payload[:2] == [[1], {"two": 2}]
    assert [event["exception"] for event in watcher.of(task_id)] == ["NotRegistered('nobody.knows')"]
    assert rollout.told() == [f"unknown {task_id} nobody.knows", f"start {done}"]


def test_a_forged_message_puts_no_job_back_that_the_worker_knows(rollout: Rollout) -> None:
    # The job waits in another queue, whose consumers are away.
    elsewhere = rollout.create("report.daily", queue_name=f"{rollout.queue_name}-elsewhere")
    rollout.portico.flush()
    before = rollout.record(elsewhere)
    app = Celery("forger", broker=rollout.broker_url, set_as_current=False)
    app.conf.task_queue_max_priority = 10
    with rollout.worker("report.daily") as worker:
        for _ in range(3):
            headers = {"portico": {"kind": "knock", "job_id": str(elsewhere)}}
            app.send_task("nobody.knows", queue=rollout.queue_name, headers=headers)
        done = rollout.create("report.daily")
        rollout.wait_until(done, JobStatus.COMPLETED)
        assert f"message_parked queue={PARKED}" not in worker.log
    app.close()
    with Connection(rollout.broker_url) as connection:
        Queue(f"{rollout.queue_name}-elsewhere", channel=connection.default_channel).delete()
    assert rollout.record(elsewhere) == before
