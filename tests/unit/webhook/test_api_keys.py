"""What a key opens, and what not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from marshmallow import Schema, fields

from portico_celery.adapters.job_trigger.webhook_trigger import ApiKeys
from portico_celery.adapters.job_trigger.webhook_trigger.verification.key_use import KeyUse
from tests.unit.nine_methods import PorticosQueue
from tests.unit.webhook.mounted import MAIL, Mounted, a_key


def test_without_a_key_every_address_of_jobs_is_closed_with_one_answer() -> None:
    key, _as_shop = a_key("shop")
    mounted = Mounted(authentication=ApiKeys([key]))
    _other, as_other = a_key("shop")

    answers = [
        mounted.post("/jobs", MAIL),
        mounted.post("/jobs", MAIL, as_other),
        mounted.post("/jobs", {"nonsense": 1}),
        mounted.post("/jobs/batch", {"jobs": [MAIL]}),
        mounted.get("/jobs"),
        mounted.get("/jobs/none"),
        mounted.post("/jobs/none/cancel", {}),
        mounted.get("/queues/default/stats"),
        mounted.get(f"/jobs?api_key={as_other['Authorization']}"),
    ]

    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["WWW-Authenticate"] for answer in answers} == {"Bearer"}
    assert len({answer.get_json(force=True)["detail"] for answer in answers}) == 1
    assert mounted.jobs == []


def test_a_key_creates_the_types_and_uses_the_queues_it_is_for() -> None:
    key, as_shop = a_key("shop", job_types=["email.send"], queues=["mails"])
    mounted = Mounted(authentication=ApiKeys([key]))

    statuses = [
        mounted.post("/jobs", {**MAIL, **more}, as_shop).status_code
        for more in ({"queue_name": "mails"}, {}, {"queue_name": "other"}, {"job_type": "a.b", "queue_name": "mails"})
    ]

    assert statuses == [202, 202, 403, 403]
    assert mounted.get("/queues/mails/stats", as_shop).get_json()["pending_count"] == 2
    assert mounted.get("/queues/other/stats", as_shop).status_code == 404


def test_a_caller_counts_its_own_jobs_in_a_queue() -> None:
    (one, as_one), (two, as_two) = a_key("one"), a_key("two")
    mounted = Mounted(authentication=ApiKeys([one, two]))
    for who in (as_one, as_one, as_two):
        assert mounted.post("/jobs", MAIL, who).status_code == 202

    counts = [mounted.get("/queues/default/stats", who).get_json()["pending_count"] for who in (as_one, as_two)]

    assert counts == [2, 1]


def test_what_a_queue_by_portico_s_own_port_can_not_do_is_not_implemented() -> None:
    key, as_shop = a_key("shop")
    mounted = Mounted(queue=PorticosQueue(), authentication=ApiKeys([key]))
    job_id = mounted.post("/jobs", MAIL, as_shop).get_json()["job_id"]

    answers = [mounted.get(path, as_shop) for path in ("/queues/default/stats", "/jobs", f"/jobs/{job_id}")]

    assert [answer.status_code for answer in answers] == [501] * 3
    assert all("can't do that" in answer.get_json(force=True)["detail"] for answer in answers)


def test_a_job_that_names_no_queue_goes_to_the_only_one_of_its_caller() -> None:
    (one, as_one), (two, as_two) = a_key("one", queues=["mails"]), a_key("two", queues=["mails", "reports"])
    mounted = Mounted(authentication=ApiKeys([one, two]))

    assert mounted.post("/jobs", MAIL, as_one).status_code == 202
    assert mounted.post("/jobs/batch", {"jobs": [MAIL]}, as_one).get_json()["accepted"] == 1
    refused = mounted.post("/jobs", MAIL, as_two)

    assert [job.queue_name for job in mounted.jobs] == ["mails", "mails"]
    assert refused.status_code == 403
    assert "queue_name" in refused.get_json(force=True)["detail"]


def test_the_only_queue_of_a_caller_has_to_be_allowed_too() -> None:
    key, as_shop = a_key("shop", queues=["mails"])
    mounted = Mounted(authentication=ApiKeys([key]), allowed_queues=["reports"])

    assert mounted.post("/jobs", MAIL, as_shop).status_code == 400
    assert mounted.jobs == []


def test_a_queue_that_is_not_allowed_is_a_wrong_field() -> None:
    mounted = Mounted(allowed_queues=["mails"], default_queue="mails")

    assert mounted.post("/jobs", {**MAIL, "queue_name": "mails"}).status_code == 202
    assert mounted.post("/jobs", MAIL).status_code == 202
    refused = mounted.post("/jobs", {**MAIL, "queue_name": "other"})
    assert (refused.status_code, list(refused.get_json(force=True)["errors"])) == (400, ["queue_name"])


class Address(Schema):
    to = fields.Email(required=True)


class Letter(Schema):
    address = fields.Nested(Address, required=True)


@pytest.mark.parametrize("schema", [Letter, Letter()])
def test_a_payload_is_checked_by_the_schema_of_its_type(schema: object) -> None:
    mounted = Mounted(payload_schemas={"letter.send": schema})

    good = mounted.post("/jobs", {"job_type": "letter.send", "payload": {"address": {"to": "ann@example.com"}}})
    bad = mounted.post("/jobs", {"job_type": "letter.send", "payload": {"address": {"to": "planted"}, "new": 1}})

    assert good.status_code == 202
    assert bad.status_code == 400
    assert set(bad.get_json(force=True)["errors"]) == {"payload.address.to", "payload.new"}
    assert "planted" not in bad.text


def test_the_priority_map_goes_before_what_is_asked_for() -> None:
    mounted = Mounted(priority_map={"email.send": 5})
    mounted.post("/jobs", {**MAIL, "priority": 9})
    mounted.post("/jobs", {**MAIL, "job_type": "other", "priority": 9})

    assert [job.priority for job in mounted.jobs] == [5, 9]


def test_a_key_in_use_is_logged_once_an_hour_and_never_its_secret(caplog: pytest.LogCaptureFixture) -> None:
    (one, as_one), (two, as_two) = a_key("shop"), a_key("crm")
    mounted = Mounted(authentication=ApiKeys([one, two]))

    for headers in (as_one, as_one, as_two, {"Authorization": "Bearer pk_unknown_" + "s" * 43}):
        mounted.post("/jobs", MAIL, headers)

    lines = [record.getMessage() for record in caplog.records if "api_key_used" in record.getMessage()]
    assert [
        (f"key_id={key.id}" in line, f"caller={key.caller}" in line)
        for key, line in zip((one, two), lines, strict=True)
    ] == [(True, True)] * 2
    assert not any(headers["Authorization"].split("_", 2)[2] in caplog.text for headers in (as_one, as_two))


def test_after_an_hour_a_key_in_use_is_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    (key, _), use, now = a_key("shop"), KeyUse(), datetime(2030, 1, 1, tzinfo=UTC)

    for minutes in (0, 59, 60, 61, 119, 120):
        use.note(key, now + timedelta(minutes=minutes))

    assert caplog.text.count("api_key_used") == 3
