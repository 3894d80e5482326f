"""One job for one key, however often it is asked for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from portico_celery.adapters.job_trigger.webhook_trigger import ApiKeys, RateLimits, request_schema
from tests.unit.webhook.mounted import MAIL, Mounted, a_key

KEY = {"Idempotency-Key": "order-5"}


def test_the_same_request_again_gets_the_same_answer_and_says_so() -> None:
    mounted = Mounted()

    first, again = (mounted.post("/jobs", MAIL, KEY) for _ in range(2))

    assert (first.status_code, again.status_code) == (202, 202)
    assert first.get_json() == again.get_json()
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(mounted.jobs) == 1
    assert mounted.trigger.health().jobs_created_count == 1


def test_another_body_under_the_same_key_is_422_and_changes_nothing() -> None:
    mounted = Mounted()
    mounted.post("/jobs", MAIL, KEY)

    answer = mounted.post("/jobs", {**MAIL, "payload": {"to": "bob@example.com"}}, KEY)

    assert answer.status_code == 422
    assert [job.payload for job in mounted.jobs] == [MAIL["payload"]]


def test_without_a_key_every_request_is_a_job() -> None:
    mounted = Mounted()
    for _ in range(2):
        mounted.post("/jobs", MAIL)

    assert len(mounted.jobs) == 2
    assert all(job.metadata == {} for job in mounted.jobs)


def test_a_key_is_its_callers_own() -> None:
    (shop, as_shop), (crm, as_crm) = a_key("shop"), a_key("crm")
    mounted = Mounted(authentication=ApiKeys([shop, crm]))

    answers = [mounted.post("/jobs", MAIL, {**KEY, **who}) for who in (as_shop, as_crm, as_shop)]

    assert [answer.status_code for answer in answers] == [202, 202, 202]
    assert len(mounted.jobs) == 2


def test_a_caller_that_changes_its_key_keeps_its_idempotency_keys() -> None:
    (old, as_old), (new, as_new) = a_key("shop"), a_key("shop")
    mounted = Mounted(authentication=ApiKeys([old, new]))

    for who in (as_old, as_new):
        mounted.post("/jobs", MAIL, {**KEY, **who})

    assert len(mounted.jobs) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "a,b", "é", "a\tb"])
def test_a_key_that_can_be_misread_is_refused(key: str) -> None:
    mounted = Mounted()

    assert mounted.post("/jobs", MAIL, {"Idempotency-Key": key}).status_code == 400
    assert mounted.jobs == []


def test_two_keys_in_one_request_are_refused() -> None:
    mounted = Mounted()
    answer = mounted.client.post(
        "/webhooks/jobs", json=MAIL, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    )

    assert answer.status_code == 400


def test_what_was_accepted_once_is_replayed_also_when_it_would_be_too_late_now() -> None:
    mounted = Mounted(rate_limits=RateLimits(per_job_type={"email.send": "1/hour"}))
    soon = {**MAIL, "scheduled_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}

    answers = [mounted.post("/jobs", soon, KEY) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [202, 202]
    assert mounted.post("/jobs", soon, {"Idempotency-Key": "other"}).status_code == 429


def test_what_was_accepted_once_is_replayed_also_when_its_time_is_long_over(monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = Mounted()
    then = {**MAIL, "scheduled_at": (datetime.now(UTC) - timedelta(seconds=200)).isoformat()}
    taken = mounted.post("/jobs", then, KEY), mounted.post("/jobs/batch", {"jobs": [then]}, KEY)
    monkeypatch.setattr(request_schema, "_LATE", timedelta(seconds=100))

    again = mounted.post("/jobs", then, KEY), mounted.post("/jobs/batch", {"jobs": [then]}, KEY)

    assert [answer.status_code for answer in (*taken, *again)] == [202] * 4
    assert again[0].headers["Idempotency-Replayed"] == "true"
    assert again[1].get_json()["jobs"][0]["replayed"] is True
    assert mounted.post("/jobs", then, {"Idempotency-Key": "other"}).status_code == 400
    assert mounted.post("/jobs/batch", {"jobs": [then]}).get_json()["jobs"][0]["status"] == 400


def test_many_at_once_are_one_job() -> None:
    mounted = Mounted()

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: mounted.post("/jobs", MAIL, KEY), range(64)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.get_json()["job_id"] for answer in answers}) == 1
    assert len(mounted.jobs) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
