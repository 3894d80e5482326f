"""The knock: an ordinary Celery message that says which job is ready, and shows nothing that must not be seen."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from kombu.utils import json as kombu_json

from portico_celery.adapters.celery.knock import (
    KnockMessage,
    adopted_job_id,
    adopted_payload,
    envelope_of,
    knock_message,
    knocked_job_id,
    summary,
)
from portico_celery.adapters.celery.settings import PorticoSettings
from portico_celery.ports.job import Job
from portico_celery.ports.job_store import Knock

REDACT = PorticoSettings(store_url="memory://").redact
JOB = Job(
    id=UUID("0f0e0d0c-0b0a-4908-8706-050403020100"),
    queue_name="mails",
    job_type="email.send",
    payload={"to": "ann@example.com"},
    priority=7,
    retry_count=2,
)


def message_for(job: Job = JOB, envelope: dict[str, Any] | None = None) -> KnockMessage:
    return knock_message(Knock(job=job, envelope=envelope), redact=REDACT)


def shown(payload: dict[str, Any]) -> str:
    return summary(replace(JOB, payload=payload), REDACT)


class TestMessage:
    """What goes over the wire."""

    def test_it_is_an_ordinary_celery_message_named_for_the_job_and_its_type(self) -> None:
        message = message_for()
        assert message.task_id == str(JOB.id)
        assert message.headers["id"] == message.headers["root_id"] == str(JOB.id)
        assert message.headers["task"] == "email.send"
        assert message.headers["retries"] == 2
        assert message.headers["lang"] == "py"

    def test_it_goes_to_the_queue_of_the_job_with_its_priority(self) -> None:
        message = message_for()
        assert (message.queue_name, message.priority, message.job_id) == ("mails", 7, JOB.id)

    def test_it_carries_no_payload_but_a_summary_of_it(self) -> None:
        message = message_for()
        arguments, keywords, _embed = json.loads(message.body)
        assert (arguments, keywords) == ([], {})
        assert message.headers["kwargsrepr"] == "{'to': 'ann@example.com'}"
        assert "ann@example.com" not in message.body

    def test_its_headers_are_json(self) -> None:
        headers = message_for().headers
        assert json.loads(json.dumps(headers)) == headers

    def test_it_says_which_job_it_knocks_for(self) -> None:
        assert knocked_job_id(message_for().headers) == JOB.id

    def test_a_knock_for_an_adopted_job_carries_what_ties_it_to_its_canvas(self) -> None:
        envelope = {
            "task_id": "my-own-id",
            "headers": {"root_id": "the-root", "parent_id": "the-parent", "group": "the-group"},
            "embed": {"callbacks": [{"task": "shop.add"}], "chord": {"task": "shop.sum"}},
        }
        message = message_for(envelope=envelope)
        assert message.task_id == message.headers["id"] == "my-own-id"
        assert (message.headers["root_id"], message.headers["parent_id"]) == ("the-root", "the-parent")
        assert message.headers["group"] == "the-group"
        assert knocked_job_id(message.headers) == JOB.id
        assert json.loads(message.body)[2] == {
            "callbacks": [{"task": "shop.add"}],
            "errbacks": None,
            "chain": None,
            "chord": {"task": "shop.sum"},
        }

    def test_an_envelope_can_not_pass_for_another_job(self) -> None:
        forged = {"headers": {"portico": {"kind": "knock", "job_id": str(uuid4())}}}
        assert knocked_job_id(message_for(envelope=forged).headers) == JOB.id


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"portico": None},
        {"portico": "knock"},
        {"portico": {}},
        {"portico": {"kind": "knock"}},
        {"portico": {"kind": "knock", "job_id": "no-uuid"}},
        {"portico": {"kind": "other", "job_id": str(JOB.id)}},
    ],
)
def test_a_message_without_our_whole_header_is_a_plain_celery_clients(headers: dict[str, Any]) -> None:
    assert knocked_job_id(headers) is None


class TestSummary:
    """What Celery's events, and so Flower, show of a payload."""

    @pytest.mark.parametrize("word", REDACT)
    def test_each_word_that_is_redacted_hides_its_value(self, word: str) -> None:
        assert shown({word: "canary"}) == f"{{'{word}': '***'}}"

    @pytest.mark.parametrize("key", ["PASSWORD", "Password", "db_password_2", "X-API_KEY", "accessToken"])
    def test_a_part_of_the_key_in_any_case_is_enough(self, key: str) -> None:
        assert "canary" not in shown({key: "canary"})

    def test_redaction_reaches_into_dicts_and_lists(self) -> None:
        payload = {"a": {"b": [{"secret": "canary-1"}, [{"Token": "canary-2"}]], "kept": "visible"}}
        assert "canary" not in shown(payload)
        assert "visible" in shown(payload)

    def test_what_is_hidden_is_hidden_whole(self) -> None:
        assert shown({"secrets": {"one": "canary", "two": ["canary"]}}) == "{'secrets': '***'}"

    def test_words_to_redact_are_taken_in_any_case(self) -> None:
        assert summary(replace(JOB, payload={"iban": "canary"}), ("IBAN",)) == "{'iban': '***'}"

    def test_nothing_is_hidden_where_nothing_is_to_be_redacted(self) -> None:
        assert summary(replace(JOB, payload={"password": "seen"}), ()) == "{'password': 'seen'}"

    def test_a_summary_of_200_characters_is_shown_whole(self) -> None:
        payload = {"text": "x" * (200 - len("{'text': ''}"))}
        assert shown(payload) == repr(payload)

    def test_a_longer_one_is_cut_and_says_so(self) -> None:
        text = shown({"text": "x" * (201 - len("{'text': ''}"))})
        assert len(text) == 203
        assert text.endswith("x'...")

    def test_the_payload_itself_stays_as_it_is(self) -> None:
        job = replace(JOB, payload={"password": "canary", "list": [{"token": "canary"}]})
        summary(job, REDACT)
        assert job.payload == {"password": "canary", "list": [{"token": "canary"}]}


class TestAdoption:
    """What becomes of a plain Celery client's call."""

    @pytest.mark.parametrize(
        ("args", "kwargs", "payload"),
        [
            ((), {}, {}),
            ((), {"to": "ann"}, {"to": "ann"}),
            (({"to": "ann"},), {}, {"to": "ann"}),
            (({"to": "ann", "cc": "bob"},), {"to": "eve"}, {"to": "eve", "cc": "bob"}),
            (("ann",), {"cc": "bob"}, {"cc": "bob", "args": ["ann"]}),
            (({"to": "ann"}, 2), {}, {"args": [{"to": "ann"}, 2]}),
            (([1, 2],), {}, {"args": [[1, 2]]}),
        ],
    )
    def test_one_dict_is_merged_under_the_keywords_and_other_arguments_become_args(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], payload: dict[str, Any]
    ) -> None:
        assert adopted_payload(args, kwargs) == payload

    def test_the_payload_is_a_copy(self) -> None:
        kwargs = {"to": "ann"}
        assert adopted_payload((), kwargs) is not kwargs

    def test_what_celerys_json_brings_and_json_does_not_have_becomes_text(self) -> None:
        when, number = datetime(2026, 11, 22, 9, 30, tzinfo=UTC), UUID(int=7)
        payload = adopted_payload(
            (), {"when": when, "deep": [{"id": number, "price": Decimal("9.90")}], "nan": math.nan}
        )
        assert payload == {
            "when": "2026-11-22T09:30:00+00:00",
            "deep": [{"id": str(number), "price": "9.90"}],
            "nan": "nan",
        }

    def test_a_task_id_that_is_a_uuid_is_the_job_id(self) -> None:
        assert adopted_job_id(str(JOB.id)) == JOB.id

    def test_another_task_id_gives_one_job_id_of_its_own_each_time(self) -> None:
        assert adopted_job_id("nightly-report") == adopted_job_id("nightly-report")
        assert adopted_job_id("nightly-report") != adopted_job_id("nightly-report-2")

    def test_an_envelope_keeps_the_raw_id_and_the_canvas_and_nothing_else(self) -> None:
        request = {
            "id": "my-own-id",
            "root_id": "the-root",
            "parent_id": None,
            "group": "the-group",
            "group_index": 0,
            "ignore_result": False,
            "callbacks": [{"task": "shop.add"}],
            "errbacks": [],
            "chain": None,
            "chord": None,
            "hostname": "worker-1",
            "delivery_info": {"routing_key": "mails"},
        }
        assert envelope_of("my-own-id", request) == {
            "task_id": "my-own-id",
            "headers": {"root_id": "the-root", "group": "the-group", "group_index": 0, "ignore_result": False},
            "embed": {"callbacks": [{"task": "shop.add"}]},
        }

    def test_a_date_in_a_callback_reaches_the_callback_as_a_date(self) -> None:
        when = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
        envelope = envelope_of("my-own-id", {"callbacks": [{"task": "shop.add", "args": [when]}]})
        message = message_for(envelope=json.loads(json.dumps(envelope)))
        [callback] = kombu_json.loads(message.body)[2]["callbacks"]
        assert callback["args"] == [when]

    def test_a_payload_may_have_a_hundred_levels_and_no_more(self) -> None:
        def nested(levels: int) -> Any:
            return [nested(levels - 1)] if levels else "end"

        assert adopted_payload((), {"deep": nested(100)}) == {"deep": nested(100)}
        with pytest.raises(ValueError, match="at most 100 levels"):
            adopted_payload((), {"deep": nested(101)})

    def test_what_an_envelope_keeps_comes_back_with_the_next_knock(self) -> None:
        request = {"root_id": "the-root", "group": "the-group", "chain": [{"task": "shop.next"}]}
        message = message_for(envelope=envelope_of("my-own-id", request))
        assert message.headers["id"] == "my-own-id"
        assert message.headers["group"] == "the-group"
        assert json.loads(message.body)[2]["chain"] == [{"task": "shop.next"}]
