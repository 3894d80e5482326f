"""Every kind of bad request, against the server as it is deployed. Nothing of it may leave anything behind."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from tests.abuse.case import JOBS, JSON, REPORT, Case, body, create
from tests.abuse.cases import all_cases
from tests.abuse.target import SECRET, Answer, Target, a_target, settled
from tests.postgresql import own_schema
from tests.services import free_port
from tests.waiting import eventually
from webhook_app.signing import signed_headers

PLANTED = "canary-7b1f"
#: gunicorn itself refuses what is no HTTP, by a page of its own.
BY_THE_SERVER = (4, 5, 9, 10, 15, 17, 19)


def faults(case: Case, answer: Answer) -> list[str]:
    """Say what is wrong with an answer."""
    wrong = [f"status {answer.status}"] if answer.status not in case.expected else []
    if answer.status >= 400 and answer.body and case.row not in BY_THE_SERVER:
        told = (answer.headers.get("content-type"), answer.headers.get("cache-control"))
        if told != ("application/problem+json", "no-store") or answer.document["status"] != answer.status:
            wrong.append("no problem document of ours")
    if answer.status == 401 and "www-authenticate" not in answer.headers:
        wrong.append("401 without WWW-Authenticate")
    if answer.status == 405 and "allow" not in answer.headers:
        wrong.append("405 without Allow")
    return wrong


def test_every_bad_request_gets_its_status_and_leaves_nothing_behind(target: Target) -> None:
    cases, before = all_cases(), target.rows()
    answers = [(case, case.send(target)) for case in cases]

    accepted = sum(answer.status == 202 for _, answer in answers)
    server_errors = [str(case) for case, answer in answers if answer.status >= 500 and 501 not in case.expected]
    wrong = [f"{case}: {', '.join(faults(case, answer))}" for case, answer in answers if faults(case, answer)]
    rows = target.rows() - before - accepted
    messages = settled(target.messages, target.rows()) - target.rows()
    groups = len({case.row for case in cases})
    figures = f"abuse: {groups} groups, {len(cases)} cases, 5xx={len(server_errors)}, wrong_status={len(wrong)}, "
    print(figures + f"rows_created_by_rejected={rows}, messages_published_by_rejected={messages}")  # noqa: T201  # the figure

    assert len(cases) >= 150
    assert not server_errors, "\n".join(server_errors)
    assert not wrong, "\n".join(wrong)
    assert (rows, messages) == (0, 0)


def test_all_failed_authentications_look_the_same(target: Target) -> None:
    keys = [target.expired, (target.as_shop[0], target.as_shop[1][:-4] + "AAAA"), ("X-Nothing", "x")]
    answers = [target.server.send("POST", JOBS, body(REPORT), [JSON, key]).document for key in keys]

    assert len({json.dumps({**answer, "request_id": ""}) for answer in answers}) == 1


def test_a_delivery_that_is_signed_anew_is_the_same_job(target: Target) -> None:
    delivery_id, before, first, answers = uuid4().hex, target.rows(), body({"type": "a"}), []
    for offset, content in ((-60, first), (0, first), (0, body({"type": "b"}))):
        stamp = str(int(time.time()) + offset)
        signed = signed_headers("standard-webhooks", SECRET, content, timestamp=stamp, delivery_id=delivery_id)
        answers.append(target.server.send("POST", "/webhooks/standard", content, [JSON, *signed.items()]))

    assert [answer.status for answer in answers] == [202, 202, 422]
    assert answers[0].document["job_id"] == answers[1].document["job_id"]
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert target.rows() == before + 1


def test_two_hundred_at_once_with_one_key_are_one_row(target: Target) -> None:
    before, key = target.rows(), ("Idempotency-Key", uuid4().hex)

    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(lambda _: create(body(REPORT), key)(target), range(200)))

    assert {answer.status for answer in answers} == {202}
    assert len({answer.document["job_id"] for answer in answers}) == 1
    assert target.rows() == before + 1
    other = target.server.send("POST", JOBS, body(REPORT), [JSON, target.as_other, key])
    assert other.status == 202
    assert target.rows() == before + 2


def test_the_job_of_another_is_not_there(target: Target) -> None:
    job_id = create(body(REPORT))(target).document["job_id"]

    for method, action in (("GET", ""), ("POST", "/cancel"), ("POST", "/requeue")):
        assert target.server.send(method, f"{JOBS}/{job_id}{action}", b"", [target.as_other]).status == 404
    assert target.server.send("GET", f"{JOBS}/{job_id}", b"", [target.as_shop]).status == 200
    statuses = [target.server.send("POST", f"{JOBS}/{job_id}/cancel", b"", [target.as_shop]).status for _ in range(2)]
    assert statuses == [200, 409]
    listed = target.server.send("GET", JOBS, b"", [target.as_other]).document["jobs"]
    assert job_id not in {job["job_id"] for job in listed}


def test_clients_that_drip_are_cut_off_and_the_others_served(target: Target) -> None:
    head = f"POST {JOBS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{{".encode()
    slow = [socket.create_connection(("127.0.0.1", target.server.port), timeout=30) for _ in range(10)]
    try:
        for connection in slow:
            connection.sendall(head)
        assert create(body(REPORT))(target).status == 202
        began = time.monotonic()
        endings = [connection.recv(12) for connection in slow]
        assert time.monotonic() - began < 25
        assert {ending[9:12] for ending in endings} <= {b"408", b""}
    finally:
        for connection in slow:
            connection.close()


def test_what_is_secret_is_in_no_log_and_no_answer(target: Target) -> None:
    planted = [
        create(body({**REPORT, "payload": {"password": PLANTED}})),
        create(body({"job_type": PLANTED, "payload": PLANTED})),
        create(body({**REPORT, "queue_name": PLANTED, "scheduled_at": PLANTED})),
        lambda t: t.server.send("POST", f"{JOBS}?key={PLANTED}", b"{}", [JSON, ("Authorization", f"Bearer {PLANTED}")]),
        lambda t: t.server.send("POST", "/webhooks/github", b"{}", [JSON, ("X-Hub-Signature-256", PLANTED)]),
        create(b'{"' + PLANTED.encode() + b'": ' + PLANTED.encode()),
    ]
    answers = [send(target) for send in planted]

    secrets = (PLANTED, target.as_shop[1][7:], SECRET)
    assert answers[0].status == 202
    settled(target.messages, target.rows())
    texts = (target.server.log, *(str(answer.body) for answer in answers), *target.message_texts())
    hits = sum(secret in text for secret in secrets for text in texts)
    print(f"canary hits={hits}")  # noqa: T201  # the figure
    assert hits == 0


def test_a_line_of_the_log_stays_one_line(target: Target) -> None:
    marked = uuid4().hex
    create(body({f"{marked}\n\r\x1b\u2028 event=forged": 1, "payload": {}}))(target)

    lines = [line for line in target.server.log.splitlines() if marked in line]
    assert len(lines) == 1
    assert "event=invalid_webhook_request" in lines[0]
    assert "\x1b" not in lines[0]


def test_a_path_is_logged_as_it_travels(target: Target) -> None:
    marked = uuid4().hex
    target.server.send("GET", f"/{marked}%0d%0aforged%20line%1b%5b31m%ff?secret=1")

    eventually(lambda: marked in target.server.log, describe="the line of the request")
    (line,) = [line for line in target.server.log.splitlines() if f"GET /{marked}" in line]
    assert f'"GET /{marked}%0D%0Aforged%20line%1B%5B31m%FF HTTP/1.1" 404' in line
    assert "secret" not in line


def test_too_many_requests_and_a_full_queue_say_when_to_come_back(
    amqp_url: str, postgres_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("full")
    with (
        own_schema(postgres_url) as store,
        a_target(directory, broker=amqp_url, store=store, redis=redis_url, PORTICO_WEBHOOK_MAX_PENDING="1") as full,
    ):
        # Its type is registered with a queue of the application's.
        answers = [create(body(REPORT))(full) for _ in range(8)]
        assert answers[0].status == 202
        assert answers[-1].status == 503
        assert int(answers[-1].headers["retry-after"]) > 0


def test_without_a_broker_jobs_are_accepted(
    postgres_url: str, redis_url: str, amqp_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    nowhere = f"amqp://127.0.0.1:{free_port()}//"
    with (
        own_schema(postgres_url) as store,
        a_target(
            tmp_path_factory.mktemp("alone"), broker=amqp_url, store=store, redis=redis_url, ABUSE_BROKER=nowhere
        ) as alone,
    ):
        assert create(body(REPORT))(alone).status == 202
        assert alone.server.send("GET", "/health/ready").document["broker"] is False
        assert alone.rows() == 1
