"""What the fields of a cron line name, as croniter reads them, less the readings that would surprise.

croniter 7 takes 5-5 for every minute, */90 for the minute 0, 15W for 15, and 22-2/2 for minutes that no hour has.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from croniter import CroniterBadCronError, CroniterBadDateError, CroniterError, croniter

from portico_celery.exceptions import InvalidSchedule

_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS = ("minute", "hour", "day", "month", "weekday")
_SIZES = (60, 24, 31, 12, 7)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMES = {name: number for number, name in [*enumerate(_MONTHS, start=1), *enumerate(_WEEKDAYS)]}
_RANGE = re.compile(r"(?P<low>[0-9a-z]+)-(?P<high>[0-9a-z]+)(?P<step>/\d+)?")
_STEP = re.compile(r".*/(\d+)")
_EVERY_DAY = "0 0 * * *"
_MAX_YEARS_APART = 10  # the 29th of February may be eight years away


@dataclass(frozen=True, kw_only=True)
class CronLine:
    """A cron line that has been read. ``minutes`` and ``hours`` are in ascending order."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    #: A cron line for croniter that names the midnight of each day.
    days: str
    seed: bytes

    @property
    def every_hour(self) -> bool:
        """Whether it fires in every hour of a day."""
        return len(self.hours) == 24

    def first_day_from(self, day: date) -> date | None:
        """Return the first day that it names, from this one on; None where none comes."""
        if self.days == _EVERY_DAY:
            return day
        try:
            before = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(seconds=1)
            days = croniter(self.days, before, hash_id=self.seed, max_years_between_matches=_MAX_YEARS_APART)
            found: datetime = days.get_next(datetime)
        except (CroniterBadDateError, OverflowError, ValueError):
            return None
        return found.date()


def read_cron_line(text: str, *, name: str) -> CronLine:
    """Read a cron line; ``name`` is what H spreads by. Raises InvalidSchedule."""
    fields = _fields_of(text)
    line = " ".join(fields)
    seed = name.encode()
    try:
        (minutes, hours, *_), _nth = croniter.expand(line, hash_id=seed)
    except (CroniterError, CroniterBadCronError, ValueError, TypeError) as error:
        raise InvalidSchedule("cron", f"{text!r} can't be read: {error}") from error
    cron_line = CronLine(
        minutes=_numbers(minutes, 60),
        hours=_numbers(hours, 24),
        days=" ".join(("0", "0", *fields[2:])),
        seed=seed,
    )
    if cron_line.first_day_from(datetime.now(UTC).date()) is None:
        raise InvalidSchedule("cron", f"{text!r} names a date that never comes")
    return cron_line


def _numbers(expanded: Sequence[int | str], size: int) -> tuple[int, ...]:
    if "*" in expanded:
        return tuple(range(size))
    return tuple(sorted({int(number) for number in expanded}))


def _fields_of(text: str) -> list[str]:
    if text.startswith("@"):
        alias = _ALIASES.get(text.strip().lower())
        if alias is None:
            raise InvalidSchedule("cron", f"{text!r} is none of {', '.join(_ALIASES)}")
        return alias.split()
    return [_field(text, place, field.lower()) for place, field in enumerate(text.split())]


def _field(text: str, place: int, field: str) -> str:
    items = field.split(",")
    if len(items) > 1 and any(item in ("*", "?") for item in items):
        raise InvalidSchedule("cron", f"{text!r}: * among others in the field {_FIELDS[place]}; write * alone")
    if place == 2 and "w" in field:
        raise InvalidSchedule("cron", f"{text!r}: W, the nearest working day, is not supported")
    return ",".join(_item(text, place, item) for item in items)


def _item(text: str, place: int, item: str) -> str:
    step = _STEP.fullmatch(item)
    if step and not 1 <= int(step[1]) < _SIZES[place]:
        raise InvalidSchedule(
            "cron",
            f"{text!r}: the step {step[1]} in the field {_FIELDS[place]} must be from 1 to {_SIZES[place] - 1}",
        )
    found = _RANGE.fullmatch(item)
    if found is None:
        return item
    low, high = _number(found["low"]), _number(found["high"])
    if low is None or high is None:
        return item
    if low == high:
        return found["low"]
    if low > high and found["step"]:
        raise InvalidSchedule(
            "cron", f"{text!r}: the range {item} goes down and has a step; write it as two ranges or as a list"
        )
    return item


def _number(word: str) -> int | None:
    return int(word) if word.isdecimal() else _NAMES.get(word)
