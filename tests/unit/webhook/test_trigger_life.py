"""Starting, stopping, failing, and what is said of it."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portico_celery.adapters.job_trigger.webhook_trigger import WebhookConfig, WebhookTrigger
from portico_celery.exceptions import StoreUnavailable, UnknownJobType, ValidationError
from portico_celery.ports.job import Job
from tests.unit.webhook.jobs_in_memory import JobsInMemory

MAIL = {"job_type": "email.send", "payload": {}}


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_trigger_that_was_never_started_refuses_and_says_when_to_come_back(jobs: JobsInMemory) -> None:
    trigger = WebhookTrigger(jobs)
    app = Flask(__name__)
    app.register_blueprint(trigger.blueprint)

    response = app.test_client().post("/webhooks/jobs", json=MAIL)

    assert not trigger.is_running
    assert response.status_code == 503
    assert response.content_type == "application/problem+json"
    assert int(response.headers["Retry-After"]) > 0
    assert not jobs.jobs


def test_a_stopped_trigger_refuses_and_starts_again(trigger: WebhookTrigger, client: FlaskClient) -> None:
    asyncio.run(trigger.stop())
    refused = client.post("/webhooks/jobs", json=MAIL)
    asyncio.run(trigger.start())
    accepted = client.post("/webhooks/jobs", json=MAIL)

    assert (refused.status_code, accepted.status_code) == (503, 202)


def test_starting_twice_is_starting_once_with_a_warning(jobs: JobsInMemory, caplog: pytest.LogCaptureFixture) -> None:
    trigger = WebhookTrigger(jobs, WebhookConfig(allowed_job_types=["email.send"]))

    asyncio.run(trigger.start())
    asyncio.run(trigger.start())

    assert trigger.is_running
    assert [line.split()[0] for line in lines(caplog)] == [
        "event=starting_webhook_trigger",
        "event=webhook_without_authentication",
        "event=webhook_trigger_started",
        "event=trigger_already_running",
    ]
    assert "prefix=/webhooks" in lines(caplog)[2]
    assert "email.send" in lines(caplog)[2]
    assert caplog.records[-1].levelname == "WARNING"


def test_stopping_twice_is_stopping_once(trigger: WebhookTrigger, caplog: pytest.LogCaptureFixture) -> None:
    asyncio.run(trigger.stop())
    asyncio.run(trigger.stop())

    assert not trigger.is_running
    assert sum("event=webhook_trigger_stopped" in line for line in lines(caplog)) == 1


def test_stop_waits_for_the_job_that_is_being_created() -> None:
    class Slow(JobsInMemory):
        entered, proceed = threading.Event(), threading.Event()

        async def create_job(self, *args: object, **kwargs: object) -> Job:
            self.entered.set()
            assert self.proceed.wait(10)
            return await super().create_job(*args, **kwargs)  # type: ignore[arg-type]  # passed through as they came

    jobs = Slow()
    trigger = WebhookTrigger(jobs)
    asyncio.run(trigger.start())
    app = Flask(__name__)
    app.register_blueprint(trigger.blueprint)

    async def stop_meanwhile() -> int:
        stopping = asyncio.create_task(trigger.stop())
        await asyncio.sleep(0)  # stop() runs until it has to wait
        assert not trigger.is_running
        late = await asyncio.to_thread(app.test_client().post, "/webhooks/jobs", json=MAIL)
        assert not stopping.done()
        jobs.proceed.set()
        await stopping
        assert len(jobs.jobs) == 1
        return late.status_code

    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(app.test_client().post, "/webhooks/jobs", json=MAIL)
        assert jobs.entered.wait(10)
        assert asyncio.run(stop_meanwhile()) == 503
        assert answer.result().status_code == 202


def test_a_request_whose_body_is_still_coming_when_the_trigger_stops_is_refused(
    trigger: WebhookTrigger, client: FlaskClient, jobs: JobsInMemory
) -> None:
    class StopsWhileRead(io.BytesIO):
        def readinto(self, buffer: Any, /) -> int:
            asyncio.run(trigger.stop())
            return super().readinto(buffer)

    response = client.post(
        "/webhooks/jobs",
        content_type="application/json",
        input_stream=StopsWhileRead(json.dumps(MAIL).encode()),
        environ_overrides={"wsgi.input_terminated": True},
    )

    assert response.status_code == 503
    assert not jobs.jobs


def test_a_created_job_is_logged_and_counted(
    trigger: WebhookTrigger, client: FlaskClient, jobs: JobsInMemory, caplog: pytest.LogCaptureFixture
) -> None:
    before = datetime.now(UTC)
    client.post("/webhooks/jobs", json=MAIL)

    health = trigger.health()
    assert (health.is_running, health.jobs_created_count, health.errors_count) == (True, 1, 0)
    assert health.last_job_created is not None
    assert before <= health.last_job_created <= datetime.now(UTC)
    assert f"event=job_created_from_webhook job_id={jobs.jobs[0].id} job_type=email.send" in lines(caplog)


@pytest.mark.parametrize("fault", [ValidationError("too much"), UnknownJobType("what?")])
def test_a_request_at_fault_is_no_error_of_the_trigger(
    trigger: WebhookTrigger, client: FlaskClient, jobs: JobsInMemory, fault: Exception
) -> None:
    jobs.error = fault
    client.post("/webhooks/jobs", json=MAIL)

    assert trigger.health().errors_count == 0
    assert trigger.health().last_job_created is None


def test_a_store_that_does_not_answer_is_a_503_that_promises_nothing(
    trigger: WebhookTrigger, client: FlaskClient, jobs: JobsInMemory
) -> None:
    jobs.error = StoreUnavailable("no answer from postgresql://user:hidden@db")

    response = client.post("/webhooks/jobs", json=MAIL)

    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert "not known whether the job was created" in response.text
    assert "hidden" not in response.text
    assert trigger.health().errors_count == 1


def test_an_unexpected_error_is_logged_with_its_traceback_and_told_without_details(
    trigger: WebhookTrigger, client: FlaskClient, jobs: JobsInMemory, caplog: pytest.LogCaptureFixture
) -> None:
    jobs.error = RuntimeError("hidden")

    response = client.post("/webhooks/jobs", json=MAIL)

    assert response.status_code == 500
    assert response.content_type == "application/problem+json"
    assert "hidden" not in response.text
    assert trigger.health().errors_count == 1
    (line,) = [line for line in lines(caplog) if "event=webhook_job_creation_failed" in line]
    assert "Traceback" in line
    assert "hidden" in line
