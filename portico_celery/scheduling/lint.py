"""What is allowed in a schedule and may surprise its author all the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from portico_celery.scheduling.fire_times import FireTimes
from portico_celery.scheduling.schedule import Schedule
from portico_celery.scheduling.schedule_book import ScheduleBook

_SIZES = {"minute": 60, "hour": 24}
_STEP = re.compile(r"\*/(\d+)")
_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A warning about one schedule."""

    name: str
    warning: str


def findings_of(book: ScheduleBook, now: datetime) -> list[Finding]:
    """Return the warnings about the schedules of a book."""
    return [
        Finding(name=schedule.name, warning=warning)
        for schedule in sorted(book, key=lambda schedule: schedule.name)
        for warning in _warnings(schedule, book, now)
    ]


def _warnings(schedule: Schedule, book: ScheduleBook, now: datetime) -> Iterator[str]:
    config = schedule.config
    if schedule.after(now) is None:
        yield "it never fires again: its end_at has passed"
    fields = config.cron.split()
    if len(fields) == 5:
        yield from _field_warnings(fields)
    by_wall_clock = book.read(replace(config, timezone="UTC"))
    for gap in _gaps(ZoneInfo(config.timezone), now):
        if gap.moves(schedule, by_wall_clock):
            moved = gap.end.astimezone(ZoneInfo(config.timezone)).isoformat()
            yield f"the clocks of {config.timezone} skip one of its times: it fires at {moved} instead"
    if config.misfire == "skip" and config.misfire_grace < 1:
        yield "misfire='skip' with a misfire_grace below a second gives up what a busy moment makes late"


def _field_warnings(fields: list[str]) -> Iterator[str]:
    for (name, size), field in zip(_SIZES.items(), fields, strict=False):
        step = _STEP.fullmatch(field)
        if step and size % int(step[1]):
            yield f"*/{step[1]} in the field {name} begins anew each time, so that the last interval is shorter"
    if not {fields[2], fields[4]} & {"*", "?"}:
        yield "day and weekday are both restricted: it fires where either fits"


@dataclass(frozen=True, kw_only=True)
class _Gap:
    """Wall-clock times that a zone skips, as if they were UTC, and the first moment after them."""

    first: datetime
    last: datetime
    end: datetime

    def moves(self, schedule: Schedule, by_wall_clock: FireTimes) -> bool:
        """Whether a schedule fires at the end of the gap for a time within it, and not for its own sake."""
        named = by_wall_clock.after(self.first - _MINUTE)
        if named is None or named > self.last or by_wall_clock.after(self.last) == self.last + _MINUTE:
            return False
        return schedule.after(self.end - _MINUTE) == self.end


def _gaps(zone: ZoneInfo, now: datetime) -> Iterator[_Gap]:
    """Yield the gaps of the year to come, to the minute."""
    day = now.astimezone(UTC).replace(second=0, microsecond=0)
    for _ in range(366):
        moment, day = day, day + _DAY
        while _offset(moment, zone) < _offset(day, zone):
            before, moment = moment, moment + _MINUTE
            jump = _offset(moment, zone) - _offset(before, zone)
            if jump > timedelta():
                after = moment.astimezone(zone).replace(tzinfo=UTC)
                yield _Gap(first=after - jump, last=after - _MINUTE, end=moment)


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()
