"""The strict reader beside Python's own."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico_celery.adapters.job_trigger.webhook_trigger import strict_json
from tests.unit.webhook.fuzzing import fuzzed

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(st.characters())
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
PIECES = st.sampled_from(
    [*'{}[],:"\\/truefalsn0123456789.eE+- \n\t', '"a"', '"a":', "\\u0000", "\\ud800", "NaN", "é", "\ufeff"]
)


def is_ours(value: Any) -> bool:
    """Whether a value that Python's reader took is one that we take."""
    if isinstance(value, dict):
        return all(is_ours(name) and is_ours(item) for name, item in value.items())
    if isinstance(value, list):
        return all(is_ours(item) for item in value)
    if isinstance(value, str):
        return "\x00" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or abs(value) < 10**20


@fuzzed
@given(VALUES)
def test_what_is_written_as_json_is_read_as_it_was_or_refused_for_a_reason(value: Any) -> None:
    text = json.dumps(value).encode()
    if is_ours(value):
        assert strict_json.load(text) == json.loads(text)
    else:
        with pytest.raises(strict_json.InvalidJson):
            strict_json.load(text)


@fuzzed
@given(st.lists(PIECES, max_size=25).map("".join))
def test_whatever_is_accepted_is_what_python_reads_and_can_be_written_again(text: str) -> None:
    try:
        value = strict_json.load(text.encode())
    except strict_json.InvalidJson:
        return
    assert value == json.loads(text)
    assert strict_json.load(json.dumps(value).encode()) == value


@fuzzed
@given(st.binary(max_size=60))
def test_no_bytes_are_anything_but_read_or_refused(body: bytes) -> None:
    with suppress(strict_json.InvalidJson):
        assert strict_json.load(body) == json.loads(body)


def test_the_limits_are_exact() -> None:
    limits = strict_json.JsonLimits(depth=3, nodes=6)

    assert strict_json.load(b"[[[1]]]", limits) == [[[1]]]
    assert strict_json.load(b"[1,2,3,4,5]", limits) == [1, 2, 3, 4, 5]
    for body in (b"[[[[]]]]", b"[1,2,3,4,5,6]"):
        with pytest.raises(strict_json.InvalidJson):
            strict_json.load(body, limits)


def test_the_name_of_a_repeated_member_is_not_told() -> None:
    with pytest.raises(strict_json.InvalidJson) as refused:
        strict_json.load(b'{"planted": 1, "planted": 2}')
    assert "planted" not in str(refused.value)
