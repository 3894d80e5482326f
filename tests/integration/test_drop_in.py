"""An application that uses Celery already, without us and with us: what it had goes on as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Queue

from tests.integration.small_app import SmallApp, ready
from tests.integration.worker_process import ROOT, START_SECONDS, Worker
from tests.services import PrivateRabbitMQ
from tests.waiting import eventually

SOURCE = """
import json, os
from celery import Celery, chord, signals
from kombu import Exchange, Queue

HERE = os.path.dirname(os.path.abspath(__file__))
LOG = os.path.join(HERE, {log!r})


class Settings:  # as Django's are
    CELERY_BROKER_URL = {broker!r}
    CELERY_RESULT_BACKEND = {results!r}
    CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS = {{"global_keyprefix": HERE}}
    CELERY_TASK_DEFAULT_QUEUE = "legacy"
    CELERY_TASK_QUEUES = [
        Queue("legacy", Exchange("legacy"), routing_key="legacy", queue_arguments={{"x-max-length": 1000}}),
        Queue(
            "reports",
            Exchange("reports", type="topic"),
            routing_key="report.#",
            queue_arguments={{"x-max-priority": 3}},
        ),
        Queue("mine"),
    ]
    CELERY_TASK_ROUTES = {{"legacy.report": {{"queue": "reports", "routing_key": "report.daily"}}}}
    CELERY_TASK_SERIALIZER = "json"
    CELERY_BEAT_SCHEDULE = {{"tick": {{"task": "legacy.tick", "schedule": 0.5}}}}
    CELERY_BEAT_SCHEDULE_FILENAME = os.path.join(HERE, "{log}.beat")
    CELERY_PORTICO_STORE_URL = "sqlite:///" + os.path.join(HERE, "jobs.db")


app = Celery("shop")
app.config_from_object(Settings, namespace="CELERY")


def note(*what):
    with open(LOG, "a") as log:
        log.write(json.dumps(what) + "\\n")


@signals.task_prerun.connect
def prerun(task=None, **_):
    note("prerun", task.name)


@signals.task_postrun.connect
def postrun(task=None, state=None, **_):
    note("postrun", task.name, state)


@signals.worker_ready.connect
def worker_ready(**_):
    note("worker_ready")


@app.task(name="legacy.add", bind=True)
def add(self, a, b):
    return [a + b, self.request.delivery_info["routing_key"]]


@app.task(name="legacy.total")
def total(numbers):
    return sum(number for number, _queue in numbers)


@app.task(name="legacy.report", bind=True)
def report(self):
    return self.request.delivery_info["routing_key"]


@app.task(name="legacy.flaky", bind=True, max_retries=2, default_retry_delay=0)
def flaky(self):
    if self.request.retries < 2:
        raise self.retry(exc=RuntimeError("not yet"))
    return self.request.retries


@app.task(name="legacy.fail")
def fail():
    raise ValueError("as ever")


@app.task(name="legacy.where", bind=True)
def where(self):
    return self.request.hostname


@app.task(name="legacy.tick")
def tick():
    return None


def exercise():
    failed = fail.delay()
    error = failed.get(timeout=30, propagate=False)
    return {{
        "add": add.delay(1, 2).get(timeout=30),
        "later": add.apply_async((3, 4), countdown=0.2).get(timeout=30),
        "report": report.delay().get(timeout=30),
        "flaky": flaky.delay().get(timeout=30),
        "fail": [failed.state, repr(error)],
        "chord": chord([add.s(1, 1), add.s(2, 2)])(total.s()).get(timeout=30),
        "schedule": sorted(app.conf.beat_schedule),
        "tasks": sorted(name for name in app.tasks if name.startswith("legacy.")),
        "queues": sorted(name for name in app.amqp.queues if name != "default"),
    }}
"""

WITH_US = """
from portico_celery import PorticoCelery
from portico_celery.ports.job import JobResult


class SendEmail:
    job_type = "email.send"

    async def handle(self, job):
        return JobResult(success=True, result_data={"queue": job.queue_name})

    async def on_failure(self, job, error):
        pass


portico = PorticoCelery(app)
portico.register(SendEmail())


def create(queue_names):
    jobs = [portico.sync.create_job("email.send", {}, queue_name=name).id for name in queue_names]
    portico.close()
    return [str(job) for job in jobs]


def statuses(ids):
    return [portico.sync.get_job(id).status.value for id in ids]
"""

EXERCISED = ("legacy.add", "legacy.total", "legacy.report", "legacy.flaky", "legacy.fail")
ARGUMENTS: dict[str, dict[str, Any]] = {"legacy": {"x-max-length": 1000}, "reports": {"x-max-priority": 3}, "mine": {}}


@dataclass(frozen=True)
class Shop:
    """The application without us and with us, on one broker."""

    url: str
    results: str
    directory: Path

    def app(self, *, with_us: bool) -> SmallApp:
        source = SOURCE.format(broker=self.url, results=self.results, log=self.log(with_us=with_us).name)
        return SmallApp(self.directory, source + (WITH_US if with_us else ""))

    def log(self, *, with_us: bool) -> Path:
        return self.directory / ("with_us" if with_us else "without_us")

    def noted(self, *, with_us: bool) -> list[list[str]]:
        """Return what the signals' receivers have noted."""
        log = self.log(with_us=with_us)
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def call(self, app: SmallApp, expression: str) -> Any:
        """Evaluate an expression in a process of its own, which has the application."""
        program = f"import json, {app.module} as shop; print(json.dumps(shop.{expression}))"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(self.directory), str(ROOT)])}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, cwd=self.directory, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def declared_as_ever(self) -> None:
        """Declare each queue as the application does: RabbitMQ refuses this where one was made in another way."""
        with Connection(self.url) as connection:
            for name, arguments in ARGUMENTS.items():
                Queue(name, queue_arguments=arguments, channel=connection.default_channel).queue_declare()


@pytest.fixture
def shop(private_rabbitmq: Any, redis_url: str, tmp_path: Path) -> Shop:
    node: PrivateRabbitMQ = private_rabbitmq()
    return Shop(node.url, redis_url, tmp_path)


def assert_well(worker: Worker) -> None:
    assert worker.running, worker.log_tail
    for sign in ("PRECONDITION_FAILED", "Unrecoverable", "unregistered task"):
        assert sign not in worker.log, worker.log_tail


def exercised(shop: Shop, *, with_us: bool) -> tuple[Any, list[list[str]]]:
    """Run the application's worker with its beat, and all its tasks; returns what came of it."""
    app = shop.app(with_us=with_us)
    with app.worker("-P", "threads", "-c", "2", "-B") as worker:
        answers = shop.call(app, "exercise()")
        eventually(
            lambda: ["postrun", "legacy.tick", "SUCCESS"] in shop.noted(with_us=with_us), START_SECONDS, "a tick"
        )
        if with_us:
            ids = shop.call(app, "create(['default', 'mine', 'legacy'])")
            eventually(lambda: shop.call(app, f"statuses({ids})") == ["completed"] * 3, START_SECONDS, worker.log_tail)
        assert_well(worker)
    noted = shop.noted(with_us=with_us)
    assert ["worker_ready"] in noted
    return answers, sorted(line for line in noted if len(line) > 1 and line[1] in EXERCISED)


@pytest.mark.parametrize("first", ["without us", "with us"])
def test_tasks_beat_routes_queues_signals_and_results_are_the_same_with_us(shop: Shop, first: str) -> None:
    order = [False, True] if first == "without us" else [True, False]

    runs = {with_us: exercised(shop, with_us=with_us) for with_us in order}

    assert runs[True] == runs[False]
    answers, noted = runs[False]
    assert answers["add"] == [3, "legacy"]
    assert answers["report"] == "report.daily"
    assert (answers["flaky"], answers["chord"]) == (2, 6)
    assert answers["fail"] == ["FAILURE", "ValueError('as ever')"]
    assert noted.count(["postrun", "legacy.flaky", "RETRY"]) == 2
    shop.declared_as_ever()


def test_a_worker_without_our_code_is_unaffected_next_to_ours(shop: Shop) -> None:
    stock, ours = shop.app(with_us=False), shop.app(with_us=True)
    theirs_only = stock.worker("-P", "threads", "-c", "2", "-Q", "legacy,reports,mine")
    our_worker = ours.worker("-P", "threads", "-c", "2", "-Q", "legacy,default")
    with ready([theirs_only, our_worker]):
        ids = shop.call(ours, "create(['default'] * 20)")

        assert shop.call(ours, "exercise()") == shop.call(stock, "exercise()")
        # Sent by the application with us, to a queue that only the worker without us has.
        assert shop.call(ours, "where.apply_async(queue='mine').get(timeout=30)").startswith(theirs_only.name)
        eventually(lambda: shop.call(ours, f"statuses({ids})") == ["completed"] * 20, START_SECONDS, "the jobs' ends")
        assert_well(theirs_only)
        assert_well(our_worker)
    shop.declared_as_ever()
