"""What the real Flower shows of jobs, and its Revoke. It reads Celery's events, and sends Celery's control commands."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest

from portico_celery.ports.job import JobStatus
from tests.integration.worker_process import APP, Journey, Program, a_journey

SECRET = "open-sesame"


class Flower(Program):
    """``celery -A journey_app flower``."""

    def __init__(self, journey: Journey) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        command = [sys.executable, "-m", "celery", "-A", APP, "flower", "--address=127.0.0.1", f"--port={self._port}"]
        environment = {**journey.environment, "FLOWER_UNAUTHENTICATED_API": "true"}
        super().__init__("flower", command, directory=journey.directory, environment=environment)
        self._journey = journey
        journey.programs.append(self)

    def is_ready(self) -> bool:
        """Whether it answers, and hears the events of a worker."""
        try:
            status, document = self.ask("GET", "/workers?json=1")
        except OSError:
            return False
        return status == http.HTTPStatus.OK and bool(document["data"])

    def ask(self, method: str, path: str) -> tuple[int, Any]:
        """Make a request of its HTTP API; returns the status, and the document of a good answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        try:
            connection.request(method, path, headers={"Content-Length": "0"})
            response = connection.getresponse()
            body = response.read()
            return response.status, json.loads(body) if response.status == http.HTTPStatus.OK else None
        finally:
            connection.close()

    def shows(self, task_id: object, state: str) -> dict[str, Any]:
        """Wait until a task is shown in a state; returns what is shown."""
        seen: list[Any] = []

        def task() -> dict[str, Any] | None:
            _status, document = self.ask("GET", f"/api/task/info/{task_id}")
            seen[:] = [document and document["state"]]
            return document if document and document["state"] == state else None

        try:
            return self._journey.eventually(task, f"{task_id} as {state}")
        except AssertionError as error:
            raise AssertionError(f"Flower shows {seen}") from error

    def revoke(self, task_id: object, **arguments: str) -> None:
        """Press Revoke, or Terminate."""
        status, _ = self.ask("POST", f"/api/task/revoke/{task_id}?{urlencode(arguments)}")
        assert status == http.HTTPStatus.OK


@pytest.fixture(scope="module")
def journey(amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    directory = tmp_path_factory.mktemp("flower")
    with a_journey(amqp_url, directory, retry_base_delay=0.3, sweep_seconds=0.2, lease_seconds=3) as journey:
        journey.settings = {**journey.settings, "task_send_sent_event": True}
        journey.portico.app.conf.task_send_sent_event = True
        with journey.worker("prefork", "-E"):
            yield journey


@pytest.fixture(scope="module")
def flower(journey: Journey) -> Iterator[Flower]:
    with Flower(journey) as flower:
        yield flower


@pytest.fixture
def busy(journey: Journey, tmp_path: Path) -> Iterator[Path]:
    """Both processes of the worker have a job that lasts until there is this file; the others wait behind them."""
    may_end = tmp_path / "may-end"
    jobs = [journey.create("journey.succeed", {"until": str(may_end)}) for _ in range(2)]
    try:
        for job_id in jobs:
            journey.started(job_id)
        yield may_end
    finally:
        may_end.touch()
    for job_id in jobs:
        journey.completed(job_id)


def test_a_job_is_shown_under_its_type_with_its_id_and_a_summary_that_hides_secrets(
    journey: Journey, flower: Flower
) -> None:
    job_id = journey.create("journey.succeed", {"recipient": "zsofia@example.org", "password": SECRET})

    shown = flower.shows(job_id, "SUCCESS")

    assert shown["name"] == "journey.succeed"
    assert shown["uuid"] == str(job_id)
    assert shown["args"] == f"('{job_id}',)"
    assert shown["kwargs"] == "{'recipient': 'zsofia@example.org', 'password': '***'}"


def test_a_job_that_is_retried_is_shown_as_retried_and_then_as_succeeded(journey: Journey, flower: Flower) -> None:
    job_id = journey.create("journey.decline", {"retry": True}, max_retries=2)
    other = journey.create("journey.raise", {"times": 2}, max_retries=3)

    for each in (job_id, other):
        shown = flower.shows(each, "SUCCESS")
        assert shown["retried"] is not None
        assert shown["retried"] < shown["succeeded"]


def test_a_job_that_died_is_shown_with_its_own_error_and_as_a_dead_letter(journey: Journey, flower: Flower) -> None:
    job_id = journey.create("journey.raise", max_retries=1)

    shown = flower.shows(job_id, "FAILURE")

    assert journey.ended(job_id).job.status is JobStatus.DEAD_LETTER
    assert shown["exception"] == "RuntimeError('it does not work')"
    assert "dead letter" in shown["traceback"]
    assert str(job_id) in shown["traceback"]


def test_a_job_that_failed_for_good_is_no_dead_letter(journey: Journey, flower: Flower) -> None:
    job_id = journey.create("journey.decline")

    shown = flower.shows(job_id, "FAILURE")

    assert journey.ended(job_id).job.status is JobStatus.FAILED
    assert "dead letter" not in shown["traceback"]


def test_a_job_that_no_worker_has_taken_is_shown_as_waiting(journey: Journey, flower: Flower) -> None:
    nobody = journey.another_queue()
    job_id = journey.create("journey.succeed", {"recipient": "ada", "token": SECRET}, queue_name=nobody)

    shown = flower.shows(job_id, "PENDING")

    assert shown["name"] == "journey.succeed"
    assert shown["kwargs"] == "{'recipient': 'ada', 'token': '***'}"
    assert shown["routing_key"] == nobody


def test_a_job_that_a_busy_worker_has_fetched_is_shown_as_received(
    journey: Journey, flower: Flower, busy: Path
) -> None:
    job_id = journey.create("journey.succeed")

    shown = flower.shows(job_id, "RECEIVED")

    assert shown["name"] == "journey.succeed"
    busy.touch()
    flower.shows(job_id, "SUCCESS")


def test_a_job_that_is_cancelled_before_its_turn_is_shown_as_revoked(
    journey: Journey, flower: Flower, busy: Path
) -> None:
    job_id = journey.create("journey.succeed")
    flower.shows(job_id, "RECEIVED")

    assert journey.portico.sync.cancel_job(job_id)
    busy.touch()

    flower.shows(job_id, "REVOKED")
    assert journey.ledger(job_id, "start") == []


def test_a_running_job_that_is_cancelled_is_shown_as_revoked(journey: Journey, flower: Flower) -> None:
    job_id = journey.create("journey.succeed", {"seconds": 60})
    journey.started(job_id)

    assert journey.portico.sync.cancel_job(job_id, running=True)

    flower.shows(job_id, "REVOKED")


def test_revoke_cancels_a_job_that_waits(journey: Journey, flower: Flower, busy: Path) -> None:
    job_id = journey.create("journey.succeed")
    flower.shows(job_id, "RECEIVED")

    flower.revoke(job_id)

    cancelled(journey, job_id)
    busy.touch()
    flower.shows(job_id, "REVOKED")
    assert journey.ledger(job_id, "start") == []


def test_revoke_cancels_a_job_that_is_scheduled(journey: Journey, flower: Flower) -> None:
    job_id = journey.create("journey.succeed", {"to": "ada"}, scheduled_at=datetime.now(UTC) + timedelta(hours=1))

    flower.revoke(job_id)

    cancelled(journey, job_id)
    shown = flower.shows(job_id, "REVOKED")
    assert (shown["name"], shown["kwargs"]) == ("journey.succeed", "{'to': 'ada'}")


def test_terminate_cancels_a_running_job_and_spares_its_process(journey: Journey, flower: Flower) -> None:
    job_id = journey.create("journey.succeed", {"seconds": 60})
    pid = journey.started(job_id)

    flower.revoke(job_id, terminate="true")

    cancelled(journey, job_id)
    flower.shows(job_id, "REVOKED")
    os.kill(pid, 0)


def cancelled(journey: Journey, job_id: UUID) -> None:
    job = journey.ended(job_id).job
    assert (job.status, job.error_message) == (JobStatus.FAILED, "Job cancelled")
