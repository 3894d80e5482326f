"""A filter says what it can't be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from portico_celery.exceptions import ValidationError
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_reader import JobFilter

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
ID = UUID(int=7)


def test_naive_datetimes_are_utc() -> None:
    wanted = JobFilter(ended_since=NOON.replace(tzinfo=None), ended_until=NOON.astimezone(timezone(timedelta(hours=2))))
    assert wanted.ended_since == wanted.ended_until == NOON
    assert wanted.ended_until is not None
    assert wanted.ended_until.tzinfo is UTC


def test_a_status_and_ids_may_be_given_as_text() -> None:
    wanted = JobFilter(status="dead_letter", job_ids=[str(ID), ID])  # type: ignore[arg-type]  # as a caller may
    assert (wanted.status, wanted.job_ids) == (JobStatus.DEAD_LETTER, (ID,))


def test_an_empty_range_may_be_asked_for() -> None:
    assert JobFilter(ended_since=NOON, ended_until=NOON).ended_until == NOON


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"ended_since": NOON, "ended_until": NOON - timedelta(seconds=1)},
            "ended_since .* must not be after ended_until",
        ),
        ({"ended_since": "yesterday"}, "ended_since must be a datetime, not 'yesterday'"),
        ({"ended_until": datetime.max.replace(tzinfo=timezone(timedelta(hours=-2)))}, "ended_until .* UTC"),
        ({"error_contains": ""}, "error_contains must have from 1 to 500 characters, not 0"),
        ({"error_contains": "x" * 501}, "error_contains must have from 1 to 500 characters, not 501"),
        ({"error_contains": "\ud800"}, "error_contains must be text that UTF-8 can express"),
        ({"error_contains": b"bytes"}, "error_contains must be text"),
        ({"queue_name": "a\0b"}, "queue_name must not contain a NUL character"),
        ({"job_type": 7}, "job_type must be text, not 7"),
        ({"status": "dead"}, "status must be one of pending, .*dead_letter, not 'dead'"),
        ({"job_ids": ("seven",)}, "job_ids must name UUIDs, and 'seven' is none"),
        ({"created_by": "ann"}, "created_by must name UUIDs, and 'ann' is none"),
        ({"job_ids": str(ID)}, "job_ids must be a sequence of ids"),
        ({"job_ids": ID}, "job_ids must be a sequence of ids"),
        ({"job_ids": tuple(UUID(int=number) for number in range(1_001))}, "at most 1,000 jobs, not 1,001"),
        ({"limit": 0}, "limit must be from 1 to 1000, not 0"),
        ({"limit": 1_001}, "limit must be from 1 to 1000, not 1001"),
        ({"limit": True}, "limit must be from 1 to 1000, not True"),
        ({"limit": "10"}, "limit must be from 1 to 1000, not '10'"),
    ],
)
def test_a_condition_that_can_not_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        JobFilter(**fields)
