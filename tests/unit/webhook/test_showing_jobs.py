"""What a client may see of a job."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from portico_celery.exceptions import StoreUnavailable
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import Attempt, JobRecord
from tests.unit.webhook.jobs_in_memory import JobsInMemory

NOON = datetime(2030, 1, 2, 12, 0, tzinfo=UTC)
JOB = Job(
    id=UUID("9d3fb0d8-51a5-4d8e-9ad1-d7e0d5d6f2a1"),
    queue_name="mails",
    job_type="email.send",
    payload={"password": "hidden"},
    priority=5,
    retry_count=1,
    status=JobStatus.COMPLETED,
    created_at=NOON,
    started_at=NOON.replace(tzinfo=None),
    completed_at=NOON.astimezone(timezone(timedelta(hours=2))),
    error_message="OSError: once",
    metadata={"secret": "hidden"},
)
ATTEMPTS = (
    Attempt(number=1, worker="w1", started_at=NOON, ended_at=NOON, error="OSError: once", traceback="hidden"),
    Attempt(number=2, worker="w2", started_at=NOON),
)


def test_a_job_is_shown_with_its_result_and_its_attempts(client: FlaskClient, jobs: JobsInMemory) -> None:
    jobs.records[JOB.id] = JobRecord(job=JOB, result_data={"sent": 1}, attempts=ATTEMPTS)

    response = client.get(f"/webhooks/jobs/{JOB.id}")

    at_noon = "2030-01-02T12:00:00+00:00"
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json == {
        "job_id": str(JOB.id),
        "job_type": "email.send",
        "queue_name": "mails",
        "status": "completed",
        "priority": 5,
        "retry_count": 1,
        "max_retries": 3,
        "created_at": at_noon,
        "scheduled_at": None,
        "started_at": at_noon,
        "completed_at": at_noon,
        "failed_at": None,
        "error_message": "OSError: once",
        "result_data": {"sent": 1},
        "attempts": [
            {"number": 1, "worker": "w1", "started_at": at_noon, "ended_at": at_noon, "error": "OSError: once"},
            {"number": 2, "worker": "w2", "started_at": at_noon, "ended_at": None, "error": None},
        ],
    }


def test_a_job_without_a_result_says_so(client: FlaskClient, jobs: JobsInMemory) -> None:
    jobs.records[JOB.id] = JobRecord(job=replace(JOB, status=JobStatus.PENDING))

    shown = client.get(f"/webhooks/jobs/{JOB.id}").get_json()

    assert (shown["status"], shown["result_data"], shown["attempts"]) == ("pending", None, [])


@pytest.mark.parametrize(
    "job_id", ["0b0e7e0c-2f3e-4c55-8d3c-0d6a4d3f5a11", "none", JOB.id.hex, f"{{{JOB.id}}}", JOB.id.urn, "%00"]
)
def test_what_is_no_job_s_id_is_not_found(client: FlaskClient, jobs: JobsInMemory, job_id: str) -> None:
    jobs.records[JOB.id] = JobRecord(job=JOB)

    response = client.get(f"/webhooks/jobs/{job_id}")

    assert response.status_code == 404
    assert response.get_json(force=True)["detail"] == "There is no such job."


def test_a_store_that_does_not_answer_is_to_be_asked_again(client: FlaskClient, jobs: JobsInMemory) -> None:
    jobs.error = StoreUnavailable("no answer from postgresql://user:hidden@db")

    response = client.get(f"/webhooks/jobs/{JOB.id}")

    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert "hidden" not in response.text


def test_an_unexpected_error_is_logged_as_one_of_reading(
    client: FlaskClient, jobs: JobsInMemory, caplog: pytest.LogCaptureFixture
) -> None:
    jobs.error = RuntimeError("hidden")

    response = client.get(f"/webhooks/jobs/{JOB.id}")

    assert response.status_code == 500
    assert "hidden" not in response.text
    assert any("event=webhook_job_read_failed" in record.getMessage() for record in caplog.records)
