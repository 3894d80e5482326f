"""What a good request gets."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest
from flask import Blueprint, Flask
from flask.testing import FlaskClient
from werkzeug.exceptions import TooManyRequests

from portico_celery.adapters.job_trigger.webhook_trigger import WebhookConfig, WebhookJobRequest, WebhookTrigger
from portico_celery.exceptions import ConfigurationError
from portico_celery.ports.job import Job
from portico_celery.ports.job_creator import JobCreator
from tests.unit.webhook.jobs_in_memory import JobsInMemory, WriteOnlyJobs

MAIL = {"job_type": "email.send", "payload": {"to": "ann@example.com"}}


def test_webhook_trigger_creates_job() -> None:
    mock_creator = AsyncMock(spec=JobCreator)
    mock_creator.create_job.return_value = Job(id=uuid4(), job_type="test.job", queue_name="default", payload={})
    trigger = WebhookTrigger(job_creator=mock_creator)

    job = asyncio.run(trigger._create_job_endpoint(WebhookJobRequest(job_type="test.job", payload={"data": "test"})))

    assert job is mock_creator.create_job.return_value
    mock_creator.create_job.assert_called_once_with(
        job_type="test.job", payload={"data": "test"}, queue_name="default", priority=0
    )


def test_a_request_with_the_required_fields_is_accepted_with_the_place_of_the_job(
    client: FlaskClient, jobs: JobsInMemory
) -> None:
    response = client.post("/webhooks/jobs", json=MAIL)

    (job,) = jobs.jobs
    assert response.status_code == 202
    assert response.content_type == "application/json"
    assert response.headers["Location"] == f"/webhooks/jobs/{job.id}"
    assert response.json == {
        "job_id": str(job.id),
        "status": "pending",
        "status_url": f"/webhooks/jobs/{job.id}",
    }
    assert (job.job_type, job.payload, job.queue_name, job.priority) == ("email.send", MAIL["payload"], "default", 0)


def test_a_request_with_every_field_is_passed_on_whole(client: FlaskClient, jobs: JobsInMemory) -> None:
    in_a_week = (datetime.now(timezone(timedelta(hours=2))) + timedelta(days=7)).replace(microsecond=0)
    more = {"queue_name": "mails", "priority": -3, "max_retries": 0, "scheduled_at": in_a_week.isoformat()}

    response = client.post("/webhooks/jobs", json={**MAIL, **more})

    (job,) = jobs.jobs
    assert response.status_code == 202
    assert (job.queue_name, job.priority, job.max_retries) == ("mails", -3, 0)
    assert job.scheduled_at == in_a_week
    assert job.scheduled_at is not None
    assert job.scheduled_at.tzinfo is UTC


def test_a_time_that_has_just_passed_is_accepted_and_means_now(client: FlaskClient) -> None:
    just_now = datetime.now(UTC) - timedelta(minutes=4)

    assert client.post("/webhooks/jobs", json={**MAIL, "scheduled_at": just_now.isoformat()}).status_code == 202


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", 'Application/JSON;CHARSET="UTF-8"']
)
def test_json_in_utf_8_is_accepted_however_it_is_written(client: FlaskClient, content_type: str) -> None:
    body = '{"job_type": "email.send", "payload": {"to": "Zoë"}}'.encode()

    assert client.post("/webhooks/jobs", data=body, content_type=content_type).status_code == 202


def test_the_identity_encoding_is_no_encoding(client: FlaskClient) -> None:
    assert client.post("/webhooks/jobs", json=MAIL, headers={"Content-Encoding": "identity"}).status_code == 202


def test_a_creator_that_awaits_a_loop_gets_one() -> None:
    class Waiting(JobsInMemory):
        async def create_job(self, *args: object, **kwargs: object) -> Job:
            await asyncio.sleep(0)
            return await super().create_job(*args, **kwargs)  # type: ignore[arg-type]  # passed through as they came

    jobs = Waiting(needs_event_loop=True)
    trigger = WebhookTrigger(jobs)
    asyncio.run(trigger.start())
    app = Flask(__name__)
    app.register_blueprint(trigger.blueprint)

    assert app.test_client().post("/webhooks/jobs", json=MAIL).status_code == 202
    assert len(jobs.jobs) == 1


def test_mounted_elsewhere_the_status_url_still_leads_to_the_job(trigger: WebhookTrigger) -> None:
    app = Flask(__name__)
    api = Blueprint("api", __name__, url_prefix="/api")
    api.register_blueprint(trigger.blueprint, name="nested")
    app.register_blueprint(api)
    app.register_blueprint(trigger.blueprint, url_prefix="/hooks")
    client = app.test_client()

    for prefix in ("/api/webhooks", "/hooks"):
        location = client.post(f"{prefix}/jobs", json=MAIL).headers["Location"]
        assert location.startswith(f"{prefix}/jobs/")
        assert client.get(location).status_code == 200


def test_below_another_application_the_status_url_names_the_whole_path(client: FlaskClient) -> None:
    response = client.post("/webhooks/jobs", json=MAIL, environ_overrides={"SCRIPT_NAME": "/shop"})

    assert response.headers["Location"].startswith("/shop/webhooks/jobs/")


def test_the_status_url_is_ascii_whatever_the_path_above_is_called(client: FlaskClient) -> None:
    response = client.post("/webhooks/jobs", json=MAIL, environ_overrides={"SCRIPT_NAME": "/b\xc3\xbccher shop"})

    location = response.headers["Location"]
    assert location.startswith("/b%C3%BCcher%20shop/webhooks/jobs/")
    assert response.get_json()["status_url"] == location


def test_where_jobs_cant_be_read_there_is_no_status_url_and_no_route_to_one() -> None:
    jobs = WriteOnlyJobs()
    trigger = WebhookTrigger(jobs)
    asyncio.run(trigger.start())
    app = Flask(__name__)
    app.register_blueprint(trigger.blueprint)
    client = app.test_client()

    response = client.post("/webhooks/jobs", json=MAIL)

    (job,) = jobs.jobs
    assert response.status_code == 202
    assert response.json == {"job_id": str(job.id), "status": "pending", "status_url": None}
    assert "Location" not in response.headers
    assert client.get(f"/webhooks/jobs/{job.id}").status_code == 404


def test_what_becomes_of_the_list_of_allowed_types_later_changes_nothing(jobs: JobsInMemory) -> None:
    allowed = ["email.send"]
    config = WebhookConfig(allowed_job_types=allowed)
    allowed.append("shop.close")

    assert config.allows("email.send")
    assert not config.allows("shop.close")


def test_an_empty_list_of_allowed_types_allows_none() -> None:
    assert not WebhookConfig(allowed_job_types=[]).allows("email.send")


@pytest.mark.parametrize(
    "config",
    [{"prefix": "webhooks"}, {"prefix": "/<tenant>"}, {"allowed_job_types": "email.send"}, {"max_body_bytes": 0}],
)
def test_a_config_that_can_mean_nothing_good_is_refused(config: dict[str, object]) -> None:
    (name,) = config
    with pytest.raises(ConfigurationError, match=name):
        WebhookConfig(**config)  # type: ignore[arg-type]  # wrong on purpose


def test_a_subclass_may_refuse_a_request_by_an_answer_of_its_own(jobs: JobsInMemory) -> None:
    class RateLimited(WebhookTrigger):
        async def _create_job_endpoint(self, request: WebhookJobRequest) -> Job:
            raise TooManyRequests(f"Too many of {request.job_type}.", retry_after=7)

    trigger = RateLimited(jobs)
    asyncio.run(trigger.start())
    app = Flask(__name__)
    app.register_blueprint(trigger.blueprint)

    response = app.test_client().post("/webhooks/jobs", json=MAIL)

    assert response.status_code == 429
    assert response.content_type == "application/problem+json"
    assert response.headers["Retry-After"] == "7"
