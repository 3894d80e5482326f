"""What Celery's own events tell of our jobs to whoever watches them, such as Flower."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.events.state import State

from portico_celery.ports.job import JobStatus
from tests.integration.worker_process import Journey, a_journey

SECRET = "open-sesame"


class Watcher:
    """Receives the events of all workers from a thread of its own, and keeps Celery's own picture of them."""

    def __init__(self, app: Celery) -> None:
        self.events: list[dict[str, Any]] = []
        self.state: Any = State()
        self._app = app
        self._watching = threading.Event()
        self._receiver: Any = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watcher:
        self._thread.start()
        assert self._watching.wait(10), "no connection to watch events on"
        return self

    def __exit__(self, *_error: object) -> None:
        self._receiver.should_stop = True
        self._thread.join()

    def _run(self) -> None:
        watching = self._watching

        class Receiver(self._app.events.Receiver):  # type: ignore[name-defined,misc]  # a class made for the app
            def on_consume_ready(self, *_args: Any, **_kwargs: Any) -> None:
                watching.set()

        with self._app.connection_for_read() as connection:
            self._receiver = Receiver(connection, handlers={"*": self._on_event})
            self._receiver.capture(wakeup=False)

    def _on_event(self, event: dict[str, Any]) -> None:
        self.state.event(event)
        self.events.append(event)

    def of(self, job_id: object) -> list[dict[str, Any]]:
        """Return the events of a job, oldest first."""
        return [event for event in list(self.events) if event.get("uuid") == str(job_id)]

    def types(self, job_id: object) -> list[str]:
        """Return the types of a job's events, oldest first."""
        return [event["type"] for event in self.of(job_id)]

    def task(self, job_id: object) -> Any:
        """Return Celery's picture of a job."""
        return self.state.tasks[str(job_id)]


@pytest.fixture(scope="module")
def journey(amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    settings = {"retry_base_delay": 0.3, "sweep_seconds": 0.2, "lease_seconds": 2}
    directory = tmp_path_factory.mktemp("events")
    with a_journey(amqp_url, directory, **settings) as journey, journey.worker("prefork", "-E"):
        yield journey


@pytest.fixture(scope="module")
def watcher(amqp_url: str, journey: Journey) -> Iterator[Watcher]:
    app = Celery("watcher", broker=amqp_url, set_as_current=False)
    try:
        with Watcher(app) as watcher:
            yield watcher
    finally:
        app.close()


def test_a_job_is_shown_under_its_type_with_a_summary_that_hides_secrets(journey: Journey, watcher: Watcher) -> None:
    payload = {"recipient": "zsofia@example.org", "smtp": {"Password": SECRET}, "api_token": SECRET}
    job_id = journey.create("journey.succeed", payload, metadata={"password": SECRET})

    journey.completed(job_id)
    journey.eventually(lambda: "task-succeeded" in watcher.types(job_id), "task-succeeded")

    task = watcher.task(job_id)
    assert task.name == "journey.succeed"
    assert task.args == f"('{job_id}',)"
    assert task.kwargs == "{'recipient': 'zsofia@example.org', 'smtp': {'Password': '***'}, 'api_token': '***'}"
    assert task.state == "SUCCESS"
    before_the_result = [event for event in watcher.of(job_id) if event["type"] != "task-succeeded"]
    assert [event["type"] for event in before_the_result] == ["task-received", "task-started"]
    assert SECRET not in repr(before_the_result)


def test_a_job_that_is_retried_is_shown_as_retried_and_then_as_succeeded(journey: Journey, watcher: Watcher) -> None:
    job_id = journey.create("journey.raise", {"times": 1, "password": SECRET}, max_retries=2)

    journey.completed(job_id)
    journey.eventually(lambda: "task-succeeded" in watcher.types(job_id), "task-succeeded")

    assert watcher.types(job_id) == [
        "task-received",
        "task-started",
        "task-retried",
        "task-received",
        "task-started",
        "task-succeeded",
    ]
    received = [event for event in watcher.of(job_id) if event["type"] == "task-received"]
    assert [event["retries"] for event in received] == [0, 1]
    assert [event["kwargs"] for event in received] == ["{'times': 1, 'password': '***'}"] * 2
    (retried,) = [event for event in watcher.of(job_id) if event["type"] == "task-retried"]
    assert retried["exception"] == "RuntimeError('it does not work')"
    assert watcher.task(job_id).state == "SUCCESS"
    assert SECRET not in repr(watcher.of(job_id))


@pytest.mark.parametrize(
    ("job_type", "status", "exception"),
    [
        ("journey.raise", JobStatus.DEAD_LETTER, "RuntimeError('it does not work')"),
        ("journey.decline", JobStatus.FAILED, "JobFailed("),
    ],
)
def test_a_job_that_died_is_shown_as_failed_with_its_own_exception(
    journey: Journey, watcher: Watcher, job_type: str, status: JobStatus, exception: str
) -> None:
    job_id = journey.create(job_type, max_retries=0)

    record = journey.ended(job_id)
    journey.eventually(lambda: "task-failed" in watcher.types(job_id), "task-failed")

    assert record.job.status is status
    assert watcher.types(job_id) == ["task-received", "task-started", "task-failed"]
    task = watcher.task(job_id)
    assert task.state == "FAILURE"
    assert task.exception.startswith(exception)


def test_a_job_that_died_with_its_process_is_shown_as_failed_by_the_loss(journey: Journey, watcher: Watcher) -> None:
    job_id = journey.create("journey.succeed", {"seconds": 60}, max_retries=0)

    os.kill(journey.started(job_id), signal.SIGKILL)

    def told() -> list[str]:
        failed = [event for event in watcher.of(job_id) if event["type"] == "task-failed"]
        # Celery's own report of the process, which does not say what happened, may come before or after.
        return [event["exception"] for event in failed if event["exception"] != "ExceptionWithTraceback()"]

    (exception,) = journey.eventually(told, "task-failed by the loss")
    assert exception.startswith("WorkerLost(")
    assert "outcome is unknown" in exception
    assert watcher.task(job_id).state == "FAILURE"
