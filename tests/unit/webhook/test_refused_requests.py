"""What a bad request gets, and what it doesn't: its own words back."""

from __future__ import annotations

import io
import json
from http import HTTPStatus
from typing import Any

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portico_celery.adapters.job_trigger.webhook_trigger import WebhookTrigger
from portico_celery.exceptions import UnknownJobType, ValidationError
from tests.unit.webhook.jobs_in_memory import JobsInMemory

MAIL: dict[str, Any] = {"job_type": "email.send", "payload": {"to": "ann@example.com"}}
CHUNKED = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}


def problem(response: TestResponse, status: int) -> dict[str, Any]:
    """Check that the answer is a problem of this status, and return it."""
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    body: dict[str, Any] = json.loads(response.data)
    assert body["type"] == "about:blank"
    assert body["title"] == HTTPStatus(status).phrase
    assert body["status"] == status
    assert body["detail"]
    return body


def without_id(document: dict[str, Any]) -> dict[str, Any]:
    """Return a problem as it is in every request."""
    return {name: value for name, value in document.items() if name != "request_id"}


def post(client: FlaskClient, body: bytes) -> TestResponse:
    return client.post("/webhooks/jobs", data=body, content_type="application/json")


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("job_type", None),
        ("job_type", 5),
        ("job_type", ""),
        ("job_type", "email send"),
        ("job_type", "x" * 256),
        ("job_type", "email.send\n"),
        ("payload", None),
        ("payload", "text"),
        ("payload", [1]),
        ("queue_name", ""),
        ("queue_name", "ü" * 128),
        ("queue_name", 1),
        ("priority", True),
        ("priority", 1.0),
        ("priority", "1"),
        ("priority", None),
        ("priority", 2**31),
        ("max_retries", -1),
        ("max_retries", 26),
        ("max_retries", False),
        ("queue_name", "celery.pidbox"),
        ("queue_name", "reply.celery.pidbox"),
        ("queue_name", "celery_delayed_5"),
        ("queue_name", "unacked_index"),
        ("queue_name", "_kombu.binding.celery"),
        ("queue_name", "amq.direct"),
        ("queue_name", "../mails"),
        ("scheduled_at", "tomorrow"),
        ("scheduled_at", "2031-05-06T07:08:09"),
        ("scheduled_at", "2001-05-06T07:08:09Z"),
        ("scheduled_at", "9999-01-01T00:00:00Z"),
        ("scheduled_at", "2027-02-30T00:00:00Z"),
        ("scheduled_at", 1_900_000_000),
        ("scheduled_at", "9999-12-31T23:59:59-14:00"),
        ("job_id", "9d3fb0d8-51a5-4d8e-9ad1-d7e0d5d6f2a1"),
        ("traceparent", "00"),
    ],
)
def test_a_wrong_member_is_refused_by_its_name(
    client: FlaskClient, jobs: JobsInMemory, member: str, value: object
) -> None:
    body = problem(client.post("/webhooks/jobs", json={**MAIL, member: value}), 400)

    assert list(body["errors"]) == [member]
    assert all(isinstance(message, str) and message for message in body["errors"][member])
    assert not jobs.jobs


def test_a_payload_that_is_no_object_is_refused_with_the_field(client: FlaskClient) -> None:
    body = problem(client.post("/webhooks/jobs", json={**MAIL, "payload": "secret-text"}), 400)

    assert body["errors"] == {"payload": ["Must be a JSON object."]}


@pytest.mark.parametrize("member", ["job_type", "payload"])
def test_a_missing_member_is_named(client: FlaskClient, member: str) -> None:
    rest = {name: value for name, value in MAIL.items() if name != member}

    assert list(problem(client.post("/webhooks/jobs", json=rest), 400)["errors"]) == [member]


def test_no_answer_repeats_a_value_that_was_sent(client: FlaskClient, jobs: JobsInMemory) -> None:
    jobs.error = ValidationError("queue_name must not be 'secret-queue'")
    wrong = dict.fromkeys(("job_type", "payload", "queue_name", "priority", "scheduled_at", "new"), "secret value")

    answers = [
        client.post("/webhooks/jobs", json=wrong),
        client.post("/webhooks/jobs", json={**MAIL, "queue_name": "secret-queue"}),
        client.post("/webhooks/jobs", json={**MAIL, "job_type": "secret.type"}),
        post(client, b'{"secret": secret}'),
        client.get("/webhooks/jobs/secret"),
    ]

    assert [answer.status_code for answer in answers] == [400, 400, 403, 400, 404]
    assert not [answer.text for answer in answers if "secret" in answer.text]


def test_of_thousands_of_wrong_members_only_some_are_named(trigger: WebhookTrigger, client: FlaskClient) -> None:
    many = {f"m{number}": 0 for number in range(60)}

    assert len(problem(client.post("/webhooks/jobs", json={**MAIL, **many}), 400)["errors"]) == 20


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"null", b"5"])
def test_a_body_that_is_no_object_is_refused(client: FlaskClient, body: bytes) -> None:
    assert problem(post(client, body), 400)["detail"] == "The body must be a JSON object."


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"job_type": "email.send", "payload": {}} x',
        b'{"job_type": "email.send", "payload": {"n": NaN}}',
        b'{"job_type": "email.send", "payload": {"n": -Infinity}}',
        b'{"job_type": "email.send", "payload": {"n": 1e999}}',
        b'{"job_type": "email.send", "job_type": "email.send", "payload": {}}',
        b'{"job_type": "email.send", "payload": {"a": 1, "a": 1}}',
        b'\xef\xbb\xbf{"job_type": "email.send", "payload": {}}',
        '{"job_type": "email.send", "payload": {}}'.encode("utf-16"),
        b'{"job_type": "email.send", "payload": {"a": "\xff"}}',
        b'{"job_type": "email.send", "payload": {"a": "\\ud800"}}',
        b'{"job_type": "email.send", "payload": {"a": "\\u0000"}}',
        b'{"job_type": "email.send", "payload": {"a": 123456789012345678901}}',
        b'{"job_type": "email.send", "payload": {"a": ' + b"[" * 31 + b"]" * 31 + b"}}",
    ],
)
def test_what_is_not_strictly_json_is_refused(client: FlaskClient, jobs: JobsInMemory, body: bytes) -> None:
    assert "errors" not in problem(post(client, body), 400)
    assert not jobs.jobs


@pytest.mark.parametrize("body", [b"[" * 60_000, b'{"a":' * 12_000, b"1" * 60_000])
def test_what_would_exhaust_the_json_reader_is_refused(jobs: JobsInMemory, body: bytes) -> None:
    problem(post(client_without_limits(jobs), body), 400)


def client_without_limits(jobs: JobsInMemory) -> FlaskClient:
    trigger = WebhookTrigger(jobs)
    trigger._activity.set_running(True)
    app = Flask(__name__)
    app.register_blueprint(trigger.blueprint)
    return app.test_client()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/problem+json"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/json; version=2"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        {"Content-Type": "application/json", "Content-Encoding": "identity, gzip"},
    ],
)
def test_another_kind_of_content_is_refused(client: FlaskClient, headers: dict[str, str]) -> None:
    problem(client.post("/webhooks/jobs", data=json.dumps(MAIL), headers=headers), 415)


def body_of(size: int) -> bytes:
    return json.dumps(MAIL).encode().ljust(size)


@pytest.mark.parametrize("environ", [{}, CHUNKED], ids=["with its length", "chunked"])
def test_a_body_of_exactly_the_limit_is_accepted_and_one_byte_more_is_not(
    client: FlaskClient, jobs: JobsInMemory, environ: dict[str, Any]
) -> None:
    def send(size: int) -> TestResponse:
        stream = {"input_stream": io.BytesIO(body_of(size))} if environ else {"data": body_of(size)}
        return client.post(
            "/webhooks/jobs",
            content_type="application/json",
            environ_overrides=environ,
            **stream,
        )

    assert send(1000).status_code == 202
    problem(send(1001), 413)
    problem(send(5000), 413)
    assert len(jobs.jobs) == 1


@pytest.mark.parametrize("environ", [{}, CHUNKED], ids=["with its length", "chunked"])
def test_a_smaller_limit_of_the_application_holds_too(trigger: WebhookTrigger, environ: dict[str, Any]) -> None:
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 500
    app.register_blueprint(trigger.blueprint)
    stream = {"input_stream": io.BytesIO(body_of(501))} if environ else {"data": body_of(501)}

    response = app.test_client().post(
        "/webhooks/jobs",
        content_type="application/json",
        environ_overrides=environ,
        **stream,
    )

    problem(response, 413)


def test_our_limit_is_not_that_of_the_application_s_other_routes(trigger: WebhookTrigger) -> None:
    app = Flask(__name__)
    app.register_blueprint(trigger.blueprint)

    @app.post("/upload")
    def upload() -> str:
        return str(len(request.get_data()))

    assert app.test_client().post("/upload", data=body_of(5000)).text == "5000"


def test_a_type_that_is_not_allowed_and_one_that_is_not_registered_get_the_same_answer(
    client: FlaskClient, jobs: JobsInMemory
) -> None:
    not_allowed = client.post("/webhooks/jobs", json={**MAIL, "job_type": "shop.close"})
    jobs.error = UnknownJobType("no handler for email.send")
    not_registered = client.post("/webhooks/jobs", json=MAIL)

    assert without_id(problem(not_allowed, 403)) == without_id(problem(not_registered, 403))


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE"])
def test_another_method_is_refused_with_those_that_work(client: FlaskClient, method: str) -> None:
    response = client.open("/webhooks/jobs", method=method)

    assert response.status_code == 405
    assert response.headers["Allow"] == "POST, OPTIONS"
    assert response.content_type == "application/problem+json"


def test_jobs_cant_be_changed_over_http(client: FlaskClient) -> None:
    location = client.post("/webhooks/jobs", json=MAIL).headers["Location"]

    assert problem(client.delete(location), 405)
    assert client.options(location).headers["Allow"] == "GET, HEAD, OPTIONS"


def test_error_pages_of_the_application_dont_take_the_place_of_ours(trigger: WebhookTrigger) -> None:
    app = Flask(__name__)
    app.register_blueprint(trigger.blueprint)
    for status in (400, 403, 404, 405, 413, 415):
        app.register_error_handler(status, lambda error: ("<h1>ours</h1>", error.code))
    client = app.test_client()

    problem(post(client, b"{"), 400)
    problem(client.get("/webhooks/jobs"), 405)
    problem(client.get("/webhooks/jobs/none"), 404)
    assert client.get("/elsewhere").text == "<h1>ours</h1>"


def test_a_refused_request_is_logged_without_its_payload(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    client.post("/webhooks/jobs", json={"payload": {"card": "4111"}, "a\nb": 1})

    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith("event=invalid_webhook_request")
    assert "status=400" in line
    assert "job_type" in line
    assert "\n" not in line
    assert "4111" not in line
