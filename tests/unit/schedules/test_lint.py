"""Warnings of what may surprise."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from portico_celery.adapters.job_trigger.schedule_trigger.cron_fire_times import read_fire_times
from portico_celery.scheduling.lint import findings_of
from portico_celery.scheduling.schedule_book import ScheduleBook
from tests.schedule_simulation import daily

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def warnings(cron: str, **settings: Any) -> list[str]:
    book = ScheduleBook(read_fire_times)
    book.add(daily(cron, **settings))
    return [finding.warning for finding in findings_of(book, NOW)]


@pytest.mark.parametrize(
    ("cron", "settings", "warning"),
    [
        ("@daily", {"end_at": datetime(2025, 1, 1, tzinfo=UTC)}, "never fires again"),
        ("*/7 * * * *", {}, "*/7 in the field minute"),
        ("0 */5 * * *", {}, "*/5 in the field hour"),
        ("0 9 1 * mon", {}, "where either fits"),
        ("30 2 * * *", {"timezone": "Europe/Berlin"}, "it fires at 2026-03-29T03:00:00+02:00 instead"),
        ("0 0 * * *", {"timezone": "Africa/Cairo"}, "it fires at 2026-04-24T01:00:00+03:00 instead"),
        ("@daily", {"misfire": "skip", "misfire_grace": 0.1}, "gives up"),
    ],
)
def test_what_may_surprise_is_told(cron: str, settings: dict[str, Any], warning: str) -> None:
    assert [found for found in warnings(cron, **settings) if warning in found], warnings(cron, **settings)


@pytest.mark.parametrize(
    ("cron", "zone"),
    [
        ("0 9 * * 1-5", "Europe/Berlin"),
        ("0 3 * * *", "Europe/Berlin"),  # at the end of the gap, in its own right
        ("30 * * * *", "Europe/Berlin"),
        ("30 2 * * *", "UTC"),
        ("30 2 1 * *", "Europe/Berlin"),
        ("*/15 */6 * * *", "Asia/Tokyo"),
    ],
)
def test_what_does_as_it_says_is_not(cron: str, zone: str) -> None:
    assert warnings(cron, timezone=zone) == []
