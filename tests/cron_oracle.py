"""Fire times worked out the slow way, by looking at a clock in the zone minute by minute; nothing of croniter's.

Three rules. A line that fires in every hour fires at each minute at which the clock shows one of its times. Any other
fires when the clock first shows each of its times of a day; one that the clock never shows is made up for at the first
minute after the gap. Days are matched as in Vixie's cron: where both day fields are restricted, either will do.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


@dataclass(frozen=True)
class Fields:
    """Each field as the set of what it names. ``last_day``: L among the days."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    last_day: bool
    any_day: bool
    any_weekday: bool

    def names_day(self, day: date) -> bool:
        by_day = day.day in self.days or (self.last_day and day.day == calendar.monthrange(day.year, day.month)[1])
        by_weekday = (day.weekday() + 1) % 7 in self.weekdays
        if day.month not in self.months:
            return False
        if self.any_day or self.any_weekday:
            return (self.any_day or by_day) and (self.any_weekday or by_weekday)
        return by_day or by_weekday


def fields_of(line: str) -> Fields:
    """Read a line of numbers, ranges, steps, lists, and L."""
    texts = line.split()
    minutes, hours, days, months, weekdays = (
        frozenset(_numbers(text, low, high)) for text, (low, high) in zip(texts, _RANGES, strict=True)
    )
    return Fields(
        minutes=minutes,
        hours=hours,
        days=days,
        months=months,
        weekdays=weekdays,
        last_day="L" in texts[2].split(","),
        any_day=len(days) == 31,
        any_weekday=len(weekdays) == 7,
    )


def _numbers(text: str, low: int, high: int) -> Iterator[int]:
    for item in text.split(","):
        if item == "L":
            continue
        span, _, step = item.partition("/")
        first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
        end = int(last) if last else (high if step else int(first))
        for number in range(int(first), end + 1, int(step or 1)):
            yield number % 7 if high == 6 else number


def fires(line: str, zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    """Return the fire times in (start, end], in UTC."""
    fields = fields_of(line)
    found: set[datetime] = set()
    # Two days more on both sides, so that each wall-clock day is seen whole.
    first, last = start - 2 * DAY, end + 2 * DAY
    # A day's end stands outside where the zone is ahead of or behind UTC.
    seen = (zone, first - DAY, last + DAY)
    if len(fields.hours) == 24:
        shown = _clock(*seen)
        found = {at for at, wall in shown if wall.minute in fields.minutes and fields.names_day(wall.date())}
    else:
        first_shown = _first_shown(*seen)
        day, last_day = first.date(), last.date()
        while day < last_day:
            if fields.names_day(day):
                for hour in fields.hours:
                    for minute in fields.minutes:
                        found.add(_made_up_for(datetime.combine(day, time(hour, minute)), first_shown))
            day += DAY
    return sorted(at for at in found if start < at <= end)


def _made_up_for(wall: datetime, first_shown: dict[datetime, datetime]) -> datetime:
    while wall not in first_shown:
        wall += MINUTE
    return first_shown[wall]


# Several lines are asked for in the same zone and time, one after the other.
@lru_cache(maxsize=1)
def _first_shown(zone: ZoneInfo, start: datetime, end: datetime) -> dict[datetime, datetime]:
    first: dict[datetime, datetime] = {}
    for at, wall in _clock(zone, start, end):
        first.setdefault(wall, at)
    return first


@lru_cache(maxsize=1)
def _clock(zone: ZoneInfo, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    at = start.astimezone(UTC).replace(second=0, microsecond=0)
    shown = []
    while at <= end:
        shown.append((at, at.astimezone(zone).replace(tzinfo=None)))
        at += MINUTE
    return shown
