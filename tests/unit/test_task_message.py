"""Only what no worker could run is found fault with."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kombu import Message

from portico_celery.adapters.celery.task_message import fault_of

PROPER = [[], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]


def message(body: Any = PROPER, **headers: Any) -> Message:
    proper = {"task": "email.send", "id": "an-id", **headers}
    return Message(json.dumps(body), content_type="application/json", content_encoding="utf-8", headers=proper)


@pytest.mark.parametrize("limits", [None, [None, None], [300, None], [None, 0.5], (300, 250), []])
def test_time_limits_that_celery_sends_are_in_order(limits: Any) -> None:
    assert fault_of(message(timelimit=limits)) is None


@pytest.mark.parametrize("limits", ["xx", 5, {"soft": 1}, ["1", "2"], [[1], None], [1], [1, 2, 3]])
def test_time_limits_that_are_no_numbers_are_a_fault(limits: Any) -> None:
    assert "time limits" in (fault_of(message(timelimit=limits)) or "")


@pytest.mark.parametrize("body", [PROPER, [["ann"], {"cc": "bob"}, {}], [[], {}, None]])
def test_a_body_of_arguments_keywords_and_options_is_in_order(body: Any) -> None:
    assert fault_of(message(body)) is None


@pytest.mark.parametrize(
    "body", [None, "abc", 5, [], [[], {}], [[], {}, {}, {}], [5, {}, {}], [[], [], {}], [[], {}, []]]
)
def test_another_body_is_a_fault(body: Any) -> None:
    assert fault_of(message(body))


def test_a_body_that_pickle_made_is_judged_alike() -> None:
    read: Any = message()
    read._decoded_cache = ((1, 2), {"a": 1}, {})  # what an app that accepts pickle gets: tuples
    assert fault_of(read) is None


@pytest.mark.parametrize("body", [{"task": "email.send", "args": [], "kwargs": {}}, {}])
def test_messages_of_the_first_protocol_are_left_to_celery(body: Any) -> None:
    assert fault_of(message(body)) is None


def test_what_has_no_task_is_left_to_celery() -> None:
    assert fault_of(Message("[1, 2]", content_type="application/json", headers={})) is None


def test_what_can_not_be_read_is_left_to_celery() -> None:
    assert fault_of(Message("{not json", content_type="application/json", headers={"task": "a"})) is None
