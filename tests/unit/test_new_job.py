"""What a new job must be like."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico_celery.exceptions import ValidationError
from portico_celery.kits.job.new_job import as_uuid, new_job, valid_json_object, valid_queue_name
from portico_celery.ports.job import Job, JobStatus

ID = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def made(
    job_type: Any = "email.send",
    payload: Any = None,
    queue_name: Any = "default",
    priority: Any = 0,
    options: Mapping[str, Any] | None = None,
    max_payload_bytes: int = 1_000,
) -> Job:
    return new_job(
        job_type,
        {} if payload is None else payload,
        queue_name,
        priority,
        options or {},
        max_payload_bytes=max_payload_bytes,
    )


def test_the_four_arguments_are_enough() -> None:
    job = made(payload={"n": 1}, queue_name="reports", priority=5)
    assert job == Job(id=job.id, queue_name="reports", job_type="email.send", payload={"n": 1}, priority=5)
    assert (job.max_retries, job.metadata, job.status) == (3, {}, JobStatus.PENDING)


def test_each_job_has_an_id_of_its_own() -> None:
    assert made().id != made().id


def test_every_option_has_its_field() -> None:
    creator, moment = uuid4(), datetime(2030, 1, 2, tzinfo=UTC)
    options = {"max_retries": 0, "created_by": creator, "metadata": {"m": 1}, "job_id": ID, "scheduled_at": moment}
    assert made(options=options) == Job(
        id=ID,
        queue_name="default",
        job_type="email.send",
        payload={},
        max_retries=0,
        created_by=creator,
        metadata={"m": 1},
        scheduled_at=moment,
    )


def test_an_option_that_is_none_is_an_option_not_given() -> None:
    options = dict.fromkeys(("max_retries", "created_by", "metadata", "job_id", "scheduled_at"))
    job = made(options=options)
    assert job == Job(id=job.id, queue_name="default", job_type="email.send", payload={})


def test_an_unknown_option_is_refused_by_its_name() -> None:
    with pytest.raises(ValidationError, match=r"countdown.*scheduled_at"):
        made(options={"countdown": 5})


@pytest.mark.parametrize("job_type", ["", " ", "a b", "a..b", ".a", "a.", "ü", "a\n", "x" * 129, None, 7, ["a"], b"a"])
def test_a_job_type_that_no_handler_could_have_is_refused(job_type: object) -> None:
    with pytest.raises(ValidationError, match="job_type"):
        made(job_type=job_type)


class TestIds:
    @pytest.mark.parametrize("text", [str(ID), ID.hex, str(ID).upper(), f"{{{ID}}}"])
    def test_an_id_may_be_text(self, text: str) -> None:
        assert as_uuid(text, "job_id") == ID

    @pytest.mark.parametrize("value", ["", "7", "x" * 200, "g" * 32, 7, 7.5, None, b"6ba7b810", [], object()])
    def test_anything_else_is_refused_by_its_name(self, value: object) -> None:
        with pytest.raises(ValidationError, match="job_id must be a UUID") as caught:
            as_uuid(value, "job_id")
        assert len(str(caught.value)) < 150

    @pytest.mark.parametrize("name", ["job_id", "created_by"])
    def test_options_that_are_ids_are_read_as_such(self, name: str) -> None:
        assert ID in (made(options={name: str(ID)}).id, made(options={name: str(ID)}).created_by)
        with pytest.raises(ValidationError, match=name):
            made(options={name: "seven"})


class TestTimes:
    def test_a_naive_time_is_taken_as_utc(self) -> None:
        naive = datetime(2030, 1, 2, 3, 4)  # noqa: DTZ001 (that is the point)
        assert made(options={"scheduled_at": naive}).scheduled_at == datetime(2030, 1, 2, 3, 4, tzinfo=UTC)

    def test_a_time_of_another_zone_is_turned_to_utc(self) -> None:
        zone = timezone(timedelta(hours=2))
        scheduled_at = made(options={"scheduled_at": datetime(2030, 1, 2, 3, 4, tzinfo=zone)}).scheduled_at
        assert scheduled_at == datetime(2030, 1, 2, 1, 4, tzinfo=UTC)
        assert scheduled_at is not None
        assert scheduled_at.tzinfo is UTC

    @pytest.mark.parametrize(
        "value",
        [
            "2030-01-02",
            1_893_553_445,
            date(2030, 1, 2),
            timedelta(hours=1),
            datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
            datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
        ],
    )
    def test_what_is_no_moment_is_refused(self, value: object) -> None:
        with pytest.raises(ValidationError, match="scheduled_at"):
            made(options={"scheduled_at": value})


class TestNumbers:
    @pytest.mark.parametrize("priority", [0, -7, 255, 2**31 - 1, -(2**31)])
    def test_any_priority_that_databases_hold_is_taken(self, priority: int) -> None:
        assert made(priority=priority).priority == priority

    @pytest.mark.parametrize(
        "priority", [2**31, -(2**31) - 1, pytest.param(10**5000, id="huge"), 1.0, "1", True, None, math.nan]
    )
    def test_any_other_priority_is_refused(self, priority: object) -> None:
        with pytest.raises(ValidationError, match="priority must be an integer"):
            made(priority=priority)

    @pytest.mark.parametrize("retries", [0, 1, 1_000])
    def test_max_retries_is_a_count(self, retries: int) -> None:
        assert made(options={"max_retries": retries}).max_retries == retries

    @pytest.mark.parametrize("retries", [-1, 1_001, 1.5, "3", True, False])
    def test_any_other_max_retries_is_refused(self, retries: object) -> None:
        with pytest.raises(ValidationError, match="max_retries must be an integer from 0 to 1000"):
            made(options={"max_retries": retries})


class TestQueueNames:
    @pytest.mark.parametrize("name", ["default", "a", "números", "a/b:c.d-e_f", "x" * 255])
    def test_printable_names_are_taken(self, name: str) -> None:
        assert valid_queue_name(name) == name

    @pytest.mark.parametrize(
        "name", ["", " ", "a b", "a\n", "\x00", "\u00a0", "x" * 256, "ü" * 128, "\ud800", None, 7, b"default", ["a"]]
    )
    def test_names_that_some_broker_would_not_take_are_refused(self, name: object) -> None:
        with pytest.raises(ValidationError, match="queue_name must be printable") as caught:
            made(queue_name=name)
        assert len(str(caught.value)) < 250


class TestPayloads:
    @given(st.dictionaries(st.text(), json_values, max_size=4))
    def test_json_comes_back_as_it_went_in(self, payload: dict[str, Any]) -> None:
        assert made(payload=payload, max_payload_bytes=10**6).payload == payload

    def test_a_tuple_comes_back_as_a_list(self) -> None:
        assert made(payload={"pair": (1, 2)}).payload == {"pair": [1, 2]}

    def test_the_job_has_a_copy_of_its_own(self) -> None:
        payload: dict[str, Any] = {"items": [1]}
        metadata: dict[str, Any] = {"items": [1]}
        job = made(payload=payload, options={"metadata": metadata})
        payload["items"].append(2)
        metadata["items"].append(2)
        assert job.payload == job.metadata == {"items": [1]}

    @pytest.mark.parametrize(
        ("payload", "fault"),
        [
            ([], "payload must be a dict, not list"),
            ("text", "payload must be a dict, not str"),
            ({1: "a"}, r"payload has the key 1"),
            ({"a": {"b": {None: 1}}}, r"payload\.a\.b has the key None"),
            ({"a": [0, {"b": datetime(2030, 1, 2, tzinfo=UTC)}]}, r"payload\.a\[1\]\.b is a datetime"),
            ({"a": {1, 2}}, r"payload\.a is a set"),
            ({"a": b"bytes"}, r"payload\.a is a bytes"),
            ({"a": Decimal("1.5")}, r"payload\.a is a Decimal"),
            ({"a": ID}, r"payload\.a is a UUID"),
            ({"a": math.nan}, "payload is not JSON-serialisable"),
            ({"a": -math.inf}, "payload is not JSON-serialisable"),
            pytest.param({"a": 10**5000}, "payload is not JSON-serialisable", id="huge"),
        ],
    )
    def test_what_json_does_not_have_is_refused_by_its_place(self, payload: object, fault: str) -> None:
        with pytest.raises(ValidationError, match=fault):
            made(payload=payload)

    def test_metadata_is_held_to_the_same(self) -> None:
        with pytest.raises(ValidationError, match=r"metadata\.a is a set"):
            made(options={"metadata": {"a": {1}}})
        with pytest.raises(ValidationError, match="metadata must be a dict"):
            made(options={"metadata": "text"})

    def test_a_payload_that_contains_itself_is_refused(self) -> None:
        payload: dict[str, Any] = {}
        payload["self"] = payload
        with pytest.raises(ValidationError, match="nested too deeply"):
            made(payload=payload)

    def test_a_payload_may_be_as_deep_as_the_limit_and_no_deeper(self) -> None:
        payload: dict[str, Any] = {}
        for _ in range(100):
            payload = {"a": payload}
        assert made(payload=payload, max_payload_bytes=10_000).payload == payload
        with pytest.raises(ValidationError, match="nested too deeply"):
            made(payload={"a": payload}, max_payload_bytes=10_000)

    def test_a_payload_may_be_as_large_as_the_limit_and_no_larger(self) -> None:
        payload = {"text": "x" * 988}
        assert made(payload=payload, max_payload_bytes=1_000).payload == payload
        with pytest.raises(ValidationError, match=r"1,001 bytes of JSON, and the limit is 1,000"):
            made(payload={"text": "x" * 989}, max_payload_bytes=1_000)

    def test_text_counts_by_the_bytes_of_its_json(self) -> None:
        with pytest.raises(ValidationError, match="bytes of JSON"):
            valid_json_object({"text": "ü" * 200}, "payload", 1_000)

    def test_enumerations_of_text_become_text(self) -> None:
        class Colour(StrEnum):
            RED = "red"

        colour = made(payload={"colour": Colour.RED}).payload["colour"]
        assert (colour, type(colour)) == ("red", str)
