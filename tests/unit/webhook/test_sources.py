"""Named senders: their events become jobs, once each."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from celery import Celery

from portico_celery import PorticoCelery
from portico_celery.adapters.job_trigger.webhook_trigger import (
    ApiKeys,
    EventJob,
    GitHub,
    NoVerification,
    Slack,
    StandardWebhooks,
    Stripe,
    WebhookConfig,
    WebhookEvent,
    WebhookJobRequest,
    WebhookSource,
    WebhookTrigger,
)
from portico_celery.adapters.job_trigger.webhook_trigger.verification.standard_webhooks import signature_header
from portico_celery.exceptions import ConfigurationError
from tests.unit.webhook.mounted import MAIL, Mounted, a_key, body_of, hex_hmac, now_text

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PUSH = body_of({"ref": "refs/heads/main", "repository": {"full_name": "ann/shop"}})
PUSHED = EventJob(job_type="repo.pushed", payload={"repository": "repository.full_name"}, queue_name="ci", priority=7)


def github(body: bytes, *, event: str = "push", delivery: str = "d-1") -> dict[str, str]:
    return {
        "X-Hub-Signature-256": f"sha256={hex_hmac('s', body)}",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": delivery,
    }


def of_github(events: Any) -> Mounted:
    return Mounted(sources={"github": WebhookSource(scheme=GitHub("s"), events=events)})


def test_an_event_becomes_the_job_that_its_entry_says() -> None:
    mounted = of_github({"push": PUSHED})

    answer = mounted.deliver("github", PUSH, github(PUSH))

    (job,) = mounted.jobs
    assert answer.status_code == 202
    assert answer.get_json() == {"job_id": str(job.id), "status": "pending", "status_url": None}
    assert (job.job_type, job.payload, job.queue_name, job.priority) == (
        "repo.pushed",
        {"repository": "ann/shop"},
        "ci",
        7,
    )


def test_an_entry_that_is_a_job_type_alone_gets_the_whole_event() -> None:
    mounted = of_github({"*": "repo.any"})
    mounted.deliver("github", PUSH, github(PUSH))

    assert mounted.jobs[0].payload == json.loads(PUSH)


def test_a_function_may_say_which_job_an_event_is_and_whether_it_is_one() -> None:
    def jobs(event: WebhookEvent) -> WebhookJobRequest | None:
        if event.document.get("ref") != "refs/heads/main":
            return None
        return WebhookJobRequest(job_type="repo.released", payload={"by": event.type})

    mounted = of_github(jobs)
    other = body_of({"ref": "refs/heads/idea"})

    for body, delivery in ((PUSH, "d-1"), (PUSH, "d-1"), (other, "d-2")):
        assert mounted.deliver("github", body, github(body, delivery=delivery)).status_code == 202
    assert [(job.job_type, job.payload) for job in mounted.jobs] == [("repo.released", {"by": "push"})]


def test_an_event_that_no_job_stands_for_is_accepted_and_counted_as_ignored() -> None:
    mounted = of_github({"push": PUSHED})

    answer = mounted.deliver("github", PUSH, github(PUSH, event="ping"))

    assert (answer.status_code, answer.get_json()) == (202, {"status": "ignored"})
    assert mounted.jobs == []
    assert mounted.trigger.health().ignored_count == 1


def test_a_delivery_that_comes_again_is_the_same_job() -> None:
    mounted = of_github({"push": PUSHED})

    answers = [mounted.deliver("github", PUSH, github(PUSH, delivery=id_)) for id_ in ("d-1", "d-1", "d-2")]

    assert answers[0].get_json() == answers[1].get_json() != answers[2].get_json()
    assert ["Idempotency-Replayed" in answer.headers for answer in answers] == [False, True, False]
    assert len(mounted.jobs) == 2
    assert mounted.trigger.health().jobs_created_count == 2


def test_what_is_not_signed_is_401_and_creates_nothing() -> None:
    mounted = of_github({"push": PUSHED})

    answers = [
        mounted.deliver("github", PUSH, headers)
        for headers in ({}, {**github(PUSH), "X-Hub-Signature-256": "sha256=00"}, github(PUSH + b" "))
    ]

    assert {answer.status_code for answer in answers} == {401}
    assert all(answer.headers["WWW-Authenticate"] for answer in answers)
    assert len({answer.get_json(force=True)["detail"] for answer in answers}) == 1
    assert mounted.jobs == []


def test_a_signed_body_that_is_no_json_or_lacks_what_its_job_needs_is_400() -> None:
    mounted = of_github({"push": PUSHED})

    for body in (b"\xff", b"[]", b"{}", b'{"repository": 1}', b'{"a": 1, "a": 2}'):
        assert mounted.deliver("github", body, github(body)).status_code == 400
    assert mounted.jobs == []


def test_a_standard_webhook_counts_by_its_id_whenever_it_is_signed() -> None:
    source = WebhookSource(scheme=StandardWebhooks(SECRET), events={"user.created": "crm.add"})
    mounted = Mounted(sources={"crm": source})
    first, second = body_of({"type": "user.created", "n": 1}), body_of({"type": "user.created", "n": 2})

    def send(body: bytes, offset: int) -> int:
        stamp = now_text(offset)
        headers = {"webhook-id": "msg_1", "webhook-timestamp": stamp}
        headers["webhook-signature"] = signature_header(SECRET, "msg_1", stamp, body)
        return mounted.deliver("crm", body, headers).status_code

    assert [send(first, -60), send(first, 0), send(second, 0)] == [202, 202, 422]
    assert len(mounted.jobs) == 1


def test_stripe_may_count_anew_in_a_retry_and_change_nothing_else() -> None:
    mounted = Mounted(sources={"stripe": WebhookSource(scheme=Stripe("s"), events={"invoice.paid": "invoice.book"})})

    def send(pending: int, amount: int = 1) -> int:
        data = {"amount": amount}
        body = body_of({"id": "evt_1", "type": "invoice.paid", "pending_webhooks": pending, "data": data})
        stamp = now_text()
        signature = f"t={stamp},v1={hex_hmac('s', f'{stamp}.'.encode() + body)}"
        return mounted.deliver("stripe", body, {"Stripe-Signature": signature}).status_code

    assert [send(2), send(1), send(1, amount=2), send(0)] == [202, 202, 422, 202]
    assert len(mounted.jobs) == 1


def test_slack_gets_back_its_challenge_and_its_events_become_jobs() -> None:
    mounted = Mounted(sources={"slack": WebhookSource(scheme=Slack("s"), events={"app_mention": "chat.answer"})})

    def send(document: dict[str, Any]) -> Any:
        body, stamp = body_of(document), now_text()
        signature = f"v0={hex_hmac('s', f'v0:{stamp}:'.encode() + body)}"
        headers = {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": signature}
        return mounted.deliver("slack", body, headers)

    assert send({"type": "url_verification", "challenge": "abc"}).get_json() == {"challenge": "abc"}
    mention = {"type": "event_callback", "event_id": "Ev1", "event": {"type": "app_mention"}}
    assert [send(mention).status_code, send(mention).status_code] == [202, 202]
    assert [job.job_type for job in mounted.jobs] == ["chat.answer"]


def test_a_key_may_be_taken_from_the_event() -> None:
    events = {"*": EventJob(job_type="order.ship", idempotency_key="order.number")}
    mounted = Mounted(sources={"shop": WebhookSource(scheme=NoVerification(), events=events)})

    bodies = [{"type": "paid", "order": {"number": 5}}, {"type": "paid", "order": {"number": 6}}]
    statuses = [mounted.post("/shop", body).status_code for body in (*bodies, bodies[0])]

    assert statuses == [202, 202, 202]
    assert len(mounted.jobs) == 2


@pytest.mark.parametrize("name", ["jobs", "queues", "docs", "Shop", "a/b", ""])
def test_a_source_is_not_named_as_another_address_is(name: str) -> None:
    with pytest.raises(ConfigurationError, match="can't be a source"):
        WebhookConfig(sources={name: WebhookSource(scheme=NoVerification(), events={"*": "a"})})


def test_a_source_that_creates_what_is_not_allowed_is_refused_at_start() -> None:
    with pytest.raises(ConfigurationError, match=r"creates repo\.pushed"):
        WebhookConfig(
            allowed_job_types=["email.send"], sources={"g": WebhookSource(scheme=GitHub("s"), events={"push": PUSHED})}
        )


def test_where_there_are_senders_and_no_keys_jobs_are_closed_unless_they_are_opened() -> None:
    sources = {"github": WebhookSource(scheme=GitHub("s"), events={"push": PUSHED})}
    closed, opened = Mounted(sources=sources), Mounted(sources=sources, jobs_open=True)

    refused = [closed.post("/jobs", MAIL), closed.post("/jobs/batch", {"jobs": [MAIL]}), closed.get("/jobs")]
    assert [answer.status_code for answer in refused] == [401, 401, 401]
    assert closed.jobs == []
    assert closed.deliver("github", PUSH, github(PUSH)).status_code == 202
    assert opened.post("/jobs", MAIL).status_code == 202


def test_jobs_can_be_closed_where_there_are_neither_senders_nor_keys() -> None:
    assert Mounted(jobs_open=False).post("/jobs", MAIL).status_code == 401


def test_keys_and_an_open_door_are_refused_together() -> None:
    key, _as_shop = a_key("shop")

    with pytest.raises(ConfigurationError, match="jobs_open"):
        WebhookConfig(authentication=ApiKeys([key]), jobs_open=True)


def test_a_source_whose_job_type_nobody_knows_is_refused_at_start() -> None:
    portico = PorticoCelery(Celery("shop", set_as_current=False), store="memory://")
    source = WebhookSource(scheme=GitHub("s"), events={"push": PUSHED, "release": "repo.released"})
    trigger = WebhookTrigger(portico.service, WebhookConfig(sources={"github": source}))
    portico.declare("repo.released")

    with pytest.raises(ConfigurationError, match=r"'github' creates repo\.pushed, .*declare\('repo\.pushed'\)"):
        asyncio.run(trigger.start())
    assert not trigger.is_running

    portico.declare("repo.pushed")
    asyncio.run(trigger.start())
    assert trigger.is_running


def test_a_source_may_have_a_limit_of_its_own_for_its_events() -> None:
    large = body_of({"commits": ["x" * 1000] * 100})
    sources = {
        name: WebhookSource(scheme=GitHub("s"), events={"push": "repo.pushed"}, max_body_bytes=limit)
        for name, limit in (("github", 200_000), ("others", None))
    }
    mounted = Mounted(sources=sources)

    assert mounted.deliver("github", large, github(large)).status_code == 202
    assert mounted.deliver("others", large, github(large)).status_code == 413


def test_a_source_that_verifies_nothing_is_told_of_at_start(caplog: pytest.LogCaptureFixture) -> None:
    Mounted(sources={"open": WebhookSource(scheme=NoVerification(), events={"*": "a"}), "github": of_push()})

    told = [record.getMessage() for record in caplog.records if "webhook_source_not_verified" in record.getMessage()]
    assert len(told) == 1
    assert "source=open" in told[0]


def of_push() -> WebhookSource:
    return WebhookSource(scheme=GitHub("s"), events={"push": "repo.pushed"})
