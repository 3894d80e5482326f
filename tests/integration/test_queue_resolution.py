"""Queues that exist are used as they are found; others are made as whoever names them declares them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from amqp import PreconditionFailed
from celery import Celery
from kombu import Connection, Queue

from portico_celery import PorticoCelery
from portico_celery.ports.job import Job, JobResult, JobStatus
from tests.integration.small_app import SmallApp, ready
from tests.integration.worker_process import Worker
from tests.services import PrivateRabbitMQ
from tests.waiting import eventually

SECONDS = 20.0
OURS = {"x-max-priority": 10}
EXISTING: dict[str, dict[str, Any]] = {
    "no arguments": {},
    "a length": {"x-max-length": 1_000},
    "a time to live": {"x-message-ttl": 3_600_000},
    "other priorities": {"x-max-priority": 3},
    "a type": {"x-queue-type": "quorum"},
}

APP = """
from celery import Celery
from portico_celery import PorticoCelery
from portico_celery.ports.job import JobResult

class Handler:
    def __init__(self, job_type):
        self.job_type = job_type
    async def handle(self, job):
        return JobResult(success=True, result_data={{"queue": job.queue_name}})
    async def on_failure(self, job, error):
        pass

app = Celery("queues", broker={url!r})
app.conf.update({settings!r})
portico = PorticoCelery(app, store={store!r})
portico.register(Handler("email.send"))
portico.register(Handler("report.daily"), queue={registered!r})
"""


@pytest.fixture
def new_queue(amqp_url: str) -> Iterator[Callable[[], str]]:
    """Names queues that nobody else uses, and deletes them afterwards."""
    names: list[str] = []

    def new() -> str:
        names.append(f"portico-test-{uuid4().hex}")
        return names[-1]

    yield new
    with Connection(amqp_url) as connection:
        for name in names:
            Queue(name, channel=connection.default_channel).delete()


@contextmanager
def portico_of(url: str, directory: Path, **settings: Any) -> Iterator[PorticoCelery]:
    """A client in this process, of the same application as the worker's."""
    app = Celery("queues", broker=url, set_as_current=False)
    app.conf.update(settings)
    portico = PorticoCelery(app, store=store_of(directory))
    portico.declare("email.send")
    portico.declare("report.daily")
    try:
        yield portico
    finally:
        portico.close()
        app.close()


def store_of(directory: Path) -> str:
    return f"sqlite:///{directory / 'jobs.db'}"


def small_app(url: str, directory: Path, registered: str, **settings: Any) -> SmallApp:
    source = APP.format(url=url, settings=settings, store=store_of(directory), registered=registered)
    return SmallApp(directory, source)


def make(url: str, name: str, arguments: dict[str, Any]) -> None:
    with Connection(url) as connection:
        Queue(name, channel=connection.default_channel, queue_arguments=arguments).queue_declare()


def is_declared_with(url: str, name: str, arguments: dict[str, Any]) -> bool:
    """Whether a durable queue is there with exactly these arguments: the broker refuses to hear of others."""
    with Connection(url) as connection:
        Queue(name, channel=connection.channel()).queue_declare(passive=True)
        try:
            Queue(name, channel=connection.default_channel, queue_arguments=arguments, durable=True).queue_declare()
        except PreconditionFailed:
            return False
    return True


def waiting(url: str, name: str) -> int:
    """Count the messages that wait in a queue."""
    with Connection(url) as connection:
        declared: Any = Queue(name, channel=connection.default_channel).queue_declare(passive=True)
        return int(declared.message_count)


def consumers(url: str, name: str) -> int:
    """Count those who consume from a queue; a queue that is not there has none."""
    with Connection(url) as connection:
        try:
            declared: Any = Queue(name, channel=connection.default_channel).queue_declare(passive=True)
        except connection.channel_errors:
            return 0
    return int(declared.consumer_count)


def assert_completed(portico: PorticoCelery, job_id: UUID, worker: Worker) -> None:
    def completed() -> bool:
        job = portico.sync.get_job(job_id)
        return job is not None and job.status is JobStatus.COMPLETED

    eventually(completed, SECONDS, lambda: f"the end of {portico.sync.get_record(job_id)}\n{worker.log_tail}")


class TestExistingQueues:
    """A queue that is there is nobody's to change."""

    def test_worker_and_publisher_use_them_as_they_are(
        self, amqp_url: str, tmp_path: Path, new_queue: Callable[[], str]
    ) -> None:
        queues = {new_queue(): arguments for arguments in EXISTING.values()}
        for name, arguments in queues.items():
            make(amqp_url, name, arguments)
        with (
            portico_of(amqp_url, tmp_path) as portico,
            small_app(amqp_url, tmp_path, new_queue()).worker("-P", "threads", "-Q", ",".join(queues)) as worker,
        ):
            jobs = [portico.sync.create_job("email.send", {}, name) for name in queues]
            assert portico.flush(SECONDS)
            for job in jobs:
                assert_completed(portico, job.id, worker)
            assert {name: consumers(amqp_url, name) for name in queues} == dict.fromkeys(queues, 1)
            assert worker.running
            assert "PRECONDITION_FAILED" not in worker.log, worker.log
        for name, arguments in queues.items():
            assert is_declared_with(amqp_url, name, arguments), arguments

    @pytest.mark.parametrize("arguments", EXISTING.values(), ids=EXISTING)
    def test_a_publisher_alone_uses_them_as_they_are(
        self, amqp_url: str, tmp_path: Path, new_queue: Callable[[], str], arguments: dict[str, Any]
    ) -> None:
        name = new_queue()
        make(amqp_url, name, arguments)
        with portico_of(amqp_url, tmp_path) as portico:
            job = portico.sync.create_job("email.send", {}, name)
            assert portico.flush(SECONDS)
        with Connection(amqp_url) as connection:
            message = Queue(name, channel=connection.default_channel).get(no_ack=True)
        assert message is not None
        assert message.headers["id"] == str(job.id)
        assert is_declared_with(amqp_url, name, arguments)


class TestQueuesOfOurOwn:
    """A name that the app does not declare is ours to make."""

    def test_a_publisher_makes_them_durable_with_ten_priorities_and_nothing_else(
        self, amqp_url: str, tmp_path: Path, new_queue: Callable[[], str]
    ) -> None:
        name = new_queue()
        with portico_of(amqp_url, tmp_path) as portico:
            portico.sync.create_job("email.send", {}, name)
            assert portico.flush(SECONDS)
        assert is_declared_with(amqp_url, name, OURS)

    def test_a_worker_makes_them_the_same_and_again_when_they_are_deleted_under_it(
        self, amqp_url: str, tmp_path: Path, new_queue: Callable[[], str]
    ) -> None:
        name = new_queue()
        with (
            portico_of(amqp_url, tmp_path) as portico,
            small_app(amqp_url, tmp_path, new_queue()).worker("-P", "solo", "-Q", name) as worker,
        ):
            assert_completed(portico, portico.sync.create_job("email.send", {}, name).id, worker)
            assert is_declared_with(amqp_url, name, OURS)
            with Connection(amqp_url) as connection:
                Queue(name, channel=connection.default_channel).delete()
            eventually(lambda: consumers(amqp_url, name), SECONDS, lambda: f"a consumer\n{worker.log_tail}")
            job = portico.sync.create_job("email.send", {}, name)
            assert_completed(portico, job.id, worker)
        assert is_declared_with(amqp_url, name, OURS)

    @pytest.mark.parametrize("plain_call_first", [True, False])
    def test_the_same_app_sends_plain_tasks_to_them_without_a_conflict(
        self, amqp_url: str, tmp_path: Path, new_queue: Callable[[], str], plain_call_first: bool
    ) -> None:
        name = new_queue()
        with portico_of(amqp_url, tmp_path) as portico:
            if not plain_call_first:
                portico.sync.create_job("email.send", {}, name)
                assert portico.flush(SECONDS)
            portico.app.send_task("email.send", kwargs={"to": "ann"}, queue=name)
            portico.app.send_task("email.send", kwargs={"to": "ann"}, queue=name, priority=9)
            portico.sync.create_job("email.send", {}, name)
            assert portico.flush(SECONDS)
        # Nobody can tell that a queue will be one of jobs before the first comes by it.
        assert is_declared_with(amqp_url, name, {} if plain_call_first else OURS)

    def test_where_the_app_forbids_to_make_queues_the_refusal_says_what_to_do(
        self, amqp_url: str, tmp_path: Path, new_queue: Callable[[], str], caplog: pytest.LogCaptureFixture
    ) -> None:
        named, other = new_queue(), new_queue()
        settings = {"task_create_missing_queues": False, "task_queues": {named: {}}}
        with portico_of(amqp_url, tmp_path, **settings) as portico:
            portico.sync.create_job("email.send", {}, other)
            portico.sync.create_job("email.send", {}, named)
            assert portico.flush(SECONDS)
        assert "knock_refused" in caplog.text
        assert "task_queues" in caplog.text
        assert other in caplog.text
        assert is_declared_with(amqp_url, named, {})


ROUTES: dict[str, Callable[[str], Any]] = {
    "a dict": lambda name: {"shop.*": {"queue": name}},
    "a dict of names": lambda name: {"shop.*": name},
    "a list of dicts": lambda name: [{"shop.add": {"queue": "elsewhere"}}, {"shop.*": {"queue": name}}],
    "a list of pairs": lambda name: [("shop.*", {"queue": name})],
    "a list of lists of pairs": lambda name: ([("shop.*", {"queue": name})],),
    "a dict of queues": lambda name: {"shop.*": {"queue": Queue(name)}},
}


class TestSendersOfOrdinaryTasks:
    """An app goes on sending as before, whatever queues it names in passing."""

    @pytest.mark.parametrize("arguments", EXISTING.values(), ids=EXISTING)
    def test_a_queue_that_is_there_takes_their_tasks_as_before(
        self, amqp_url: str, tmp_path: Path, new_queue: Callable[[], str], arguments: dict[str, Any]
    ) -> None:
        name = new_queue()
        make(amqp_url, name, arguments)
        with portico_of(amqp_url, tmp_path) as portico:
            portico.declare("another", queue=name)  # also where jobs come by it
            portico.app.send_task("shop.add", queue=name)
            with portico.app.connection_for_write() as connection:
                portico.app.send_task("shop.add", queue=name, connection=connection)
            eventually(lambda: waiting(amqp_url, name) == 2, SECONDS)  # they are not confirmed
        assert is_declared_with(amqp_url, name, arguments)

    def test_a_new_queue_is_made_as_celery_makes_it(
        self, amqp_url: str, tmp_path: Path, new_queue: Callable[[], str]
    ) -> None:
        name = new_queue()
        with portico_of(amqp_url, tmp_path) as portico:
            portico.app.send_task("shop.add", queue=name)
            eventually(lambda: waiting(amqp_url, name) == 1, SECONDS)
        assert is_declared_with(amqp_url, name, {})


def test_a_generated_tasks_own_calls_go_to_the_queue_of_its_jobs(
    amqp_url: str, tmp_path: Path, new_queue: Callable[[], str]
) -> None:
    class Handler:
        job_type = "mail.send"

        async def handle(self, job: Job) -> JobResult:
            raise AssertionError(f"nobody works here, and {job.id} runs")

        async def on_failure(self, job: Job, error: Exception) -> None: ...

    name = new_queue()
    with portico_of(amqp_url, tmp_path) as portico:
        portico.register(Handler(), queue=name)
        portico.app.tasks["mail.send"].delay(to="ann")
        portico.app.signature("mail.send", kwargs={"to": "bea"}).delay()
        eventually(lambda: waiting(amqp_url, name) == 2, SECONDS)


class TestQueuesOfTheApp:
    """What the app names is made as the app declares it."""

    def assert_made(self, url: str, directory: Path, name: str, wanted: dict[str, Any], **settings: Any) -> None:
        with portico_of(url, directory, **settings) as portico:
            portico.sync.create_job("email.send", {}, name)
            assert portico.flush(SECONDS)
        assert is_declared_with(url, name, wanted)

    def test_the_default_queue_gets_no_priorities(
        self, amqp_url: str, tmp_path: Path, new_queue: Callable[[], str]
    ) -> None:
        name = new_queue()
        self.assert_made(amqp_url, tmp_path, name, {}, task_default_queue=name)

    def test_a_queue_in_task_queues_gets_the_arguments_it_has_there(
        self, amqp_url: str, tmp_path: Path, new_queue: Callable[[], str]
    ) -> None:
        name, arguments = new_queue(), {"x-max-length": 50}
        task_queues = [Queue(name, routing_key=name, queue_arguments=arguments)]
        self.assert_made(amqp_url, tmp_path, name, arguments, task_queues=task_queues)

    @pytest.mark.parametrize("routes", ROUTES.values(), ids=ROUTES)
    def test_a_queue_in_task_routes_gets_no_priorities(
        self, amqp_url: str, tmp_path: Path, new_queue: Callable[[], str], routes: Callable[[str], Any]
    ) -> None:
        name = new_queue()
        self.assert_made(amqp_url, tmp_path, name, {}, task_routes=routes(name))

    def test_the_apps_own_greatest_priority_goes_for_all_queues(
        self, amqp_url: str, tmp_path: Path, new_queue: Callable[[], str]
    ) -> None:
        name = new_queue()
        self.assert_made(amqp_url, tmp_path, name, {"x-max-priority": 4}, task_queue_max_priority=4)

    def test_the_apps_own_type_for_new_queues_is_kept(
        self, amqp_url: str, tmp_path: Path, new_queue: Callable[[], str]
    ) -> None:
        name = new_queue()
        wanted = {"x-queue-type": "quorum"}
        self.assert_made(amqp_url, tmp_path, name, wanted, task_create_missing_queue_type="quorum")


class TestWhatAWorkerConsumes:
    """On a broker of its own, as the names of these queues are given."""

    def test_its_own_queues_without_a_selection_and_only_the_selected_ones_with_one(
        self, private_rabbitmq: Callable[..., PrivateRabbitMQ], tmp_path: Path
    ) -> None:
        url = private_rabbitmq().url
        app = small_app(url, tmp_path, "reports", task_default_queue="plain", task_routes={"shop.*": "routed"})
        with_all = app.worker("-P", "solo")
        with_some = app.worker("-P", "solo", "-Q", "reports,another")
        without_one = app.worker("-P", "solo", "-X", "reports")
        with portico_of(url, tmp_path) as portico, ready([with_all, with_some, without_one]):
            inspect: Any = portico.app.control.inspect(timeout=SECONDS, limit=3)
            consumed = {
                worker.partition("@")[0]: {queue["name"] for queue in queues}
                for worker, queues in inspect.active_queues().items()
            }
            assert consumed == {
                with_all.name: {"default", "reports", "plain"},
                with_some.name: {"reports", "another"},
                without_one.name: {"default", "plain"},
            }
            for name in ("default", "reports", "plain", "another"):
                assert_completed(portico, portico.sync.create_job("email.send", {}, name).id, with_all)
            assert is_declared_with(url, "default", OURS)
            assert is_declared_with(url, "reports", OURS)
            assert is_declared_with(url, "plain", {})
