"""A worker that can't do its work says so when it starts; one that can does it in whatever way it was started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from kombu import Connection, Queue

from portico_celery import PorticoCelery
from portico_celery.exceptions import ConfigurationError
from portico_celery.ports.job import Job, JobResult, JobStatus
from portico_celery.ports.job_reader import JobRecord
from tests.integration.small_app import SmallApp
from tests.integration.worker_process import Worker
from tests.waiting import eventually

SECONDS = 20.0

APP = """
import os

from celery import Celery
from portico_celery import PorticoCelery
from portico_celery.ports.job import JobResult

class Handler:
    job_type = "email.send"
    async def handle(self, job):
        return JobResult(success=True, result_data={{"pid": os.getpid()}})
    async def on_failure(self, job, error):
        pass

def plain_task():
    pass

app = Celery("starting", broker={broker!r})
portico = PorticoCelery(app, store={store!r})
{rest}
"""


class SendEmail:
    """The least of handlers."""

    job_type = "email.send"

    async def handle(self, job: Job) -> JobResult:  # noqa: ARG002  # the port's
        return JobResult(success=True)

    async def on_failure(self, job: Job, error: Exception) -> None:
        pass


def plain_task() -> str:
    """Runs as a Celery task of the app's own."""
    return "done"


def small_app(directory: Path, rest: str, *, broker: str = "portico-memory://", store: str | None = None) -> SmallApp:
    store_url = store or f"sqlite:///{directory / 'jobs.db'}"
    return SmallApp(directory, APP.format(broker=broker, store=store_url, rest=rest))


class TestTakenNames:
    """A job type that is the name of a task of the app."""

    @pytest.fixture
    def app(self) -> Iterator[Celery]:
        app = Celery("taken", broker="portico-memory://", set_as_current=False)
        yield app
        app.close()

    @pytest.fixture
    def portico(self, app: Celery) -> Iterator[PorticoCelery]:
        portico = PorticoCelery(app, store="memory://")
        yield portico
        portico.close()

    def test_it_is_refused_at_once_where_the_apps_tasks_are_made(self, app: Celery, portico: PorticoCelery) -> None:
        app.task(name="email.send", shared=False)(plain_task)
        app.finalize()
        with pytest.raises(ConfigurationError, match=r"'email\.send' is the name of a Celery task of this app"):
            portico.register(SendEmail())

    @pytest.mark.filterwarnings("ignore::celery.exceptions.DuplicateTaskNameWarning")  # what Celery has to say of it
    def test_it_is_refused_at_the_first_use_where_they_were_not_yet(self, app: Celery, portico: PorticoCelery) -> None:
        app.task(name="email.send", shared=False)(plain_task)
        portico.register(SendEmail())
        with pytest.raises(ConfigurationError, match="give the job type or the task another name"):
            portico.check()
        with pytest.raises(ConfigurationError, match=r"email\.send"):
            portico.sync.create_job("email.send", {})

    def test_it_is_refused_where_the_type_is_only_declared(self, app: Celery, portico: PorticoCelery) -> None:
        app.task(name="email.send", shared=False)(plain_task)
        portico.declare("email.send")
        with pytest.raises(ConfigurationError, match=r"email\.send"):
            portico.check()

    def test_a_task_of_another_name_is_left_alone(self, app: Celery, portico: PorticoCelery) -> None:
        task = app.task(name="email.send_plainly", shared=False)(plain_task)
        portico.register(SendEmail())
        portico.check()
        assert app.tasks["email.send_plainly"].name == task.name
        assert app.tasks["email.send_plainly"]() == "done"

    @pytest.mark.parametrize("task_first", [True, False])
    def test_a_worker_ends_with_the_reason(self, task_first: bool, tmp_path: Path) -> None:
        task, register = "app.task(name='email.send')(plain_task)", "portico.register(Handler())"
        app = small_app(tmp_path, "\n".join([task, register] if task_first else [register, task]))
        ended = app.worker_that_ends("-P", "solo")
        assert ended.returncode != 0
        assert "'email.send' is the name of a Celery task of this app" in ended.output


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("portico_lease_second = 5", "unknown setting portico_lease_second: did you mean portico_lease_seconds?"),
        ("portico_lease_seconds = 'long'", "portico_lease_seconds must be a number of seconds above 0"),
    ],
)
def test_a_worker_with_a_setting_that_can_not_work_ends_with_the_reason(
    setting: str, message: str, tmp_path: Path
) -> None:
    ended = small_app(tmp_path, f"app.conf.{setting}").worker_that_ends("-P", "solo")
    assert ended.returncode != 0
    assert message in ended.output


def test_a_store_in_memory_is_refused_for_a_pool_of_processes(tmp_path: Path) -> None:
    ended = small_app(tmp_path, "app.conf.worker_pool = 'prefork'", store="memory://").worker_that_ends()
    assert ended.returncode != 0
    assert "--pool=threads" in ended.output


def test_a_job_may_be_created_while_the_app_is_being_made_ready() -> None:
    app = Celery("eager", broker="portico-memory://", set_as_current=False)
    portico = PorticoCelery(app, store="memory://")
    portico.declare("email.send")
    created: list[str] = []

    @app.on_after_finalize.connect(weak=False)
    def create(**_kwargs: Any) -> None:
        created.append(str(portico.sync.create_job("email.send", {}).id))

    portico.sync.create_job("email.send", {})

    assert len(created) == 1
    portico.close()
    app.close()


def test_a_worker_with_a_store_that_there_is_none_of_ends_with_the_reason(tmp_path: Path) -> None:
    ended = small_app(tmp_path, "", store="mysql://somewhere/jobs").worker_that_ends("-P", "solo")
    assert ended.returncode != 0
    assert "no job store for 'mysql'" in ended.output


def result_of(portico: PorticoCelery, job_id: str, worker: Worker) -> dict[str, Any]:
    """Wait for the good end of a job."""

    def completed() -> JobRecord | None:
        record = portico.sync.get_record(job_id)
        return record if record is not None and record.job.status is JobStatus.COMPLETED else None

    record = eventually(completed, SECONDS, lambda: f"the end of job {job_id}\n{worker.log_tail}")
    assert record is not None
    return dict(record.result_data or {})


def test_jobs_created_before_the_pool_forked_and_in_its_children_all_run(amqp_url: str, tmp_path: Path) -> None:
    """What the parent has opened by then, such as a database client and the broker's connection, is its own."""
    queue_name = f"portico-test-{uuid4().hex}"
    at_import = """
class Parent:
    job_type = "parent"
    async def handle(self, job):
        child = await portico.service.create_job("email.send", {{"parent": str(job.id)}}, {queue!r})
        return JobResult(success=True, result_data={{"pid": os.getpid(), "child": str(child.id)}})
    async def on_failure(self, job, error):
        pass

portico.register(Handler())
portico.register(Parent())
ids = [portico.sync.create_job("parent", {{}}, {queue!r}).id for _ in range(8)]
assert portico.flush(10)
with open({created!r}, "w") as created:
    created.write(str(os.getpid()) + " " + " ".join(map(str, ids)))
""".format(queue=queue_name, created=str(tmp_path / "created"))
    app = small_app(tmp_path, at_import, broker=amqp_url)
    client_app = Celery("client", broker=amqp_url, set_as_current=False)
    portico = PorticoCelery(client_app, store=f"sqlite:///{tmp_path / 'jobs.db'}")
    try:
        with app.worker("-P", "prefork", "-c", "2", "-Q", queue_name) as worker:
            pid, *parents = (tmp_path / "created").read_text().split()
            assert int(pid) == worker.pid
            for parent in parents:
                result = result_of(portico, parent, worker)
                assert result["pid"] != worker.pid
                assert result_of(portico, result["child"], worker)["pid"] != worker.pid
            assert worker.running
    finally:
        portico.close()
        client_app.close()
        with Connection(amqp_url) as connection:
            Queue(queue_name, channel=connection.default_channel).delete()
