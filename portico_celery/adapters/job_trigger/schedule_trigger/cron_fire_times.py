"""The moments that a cron line names in a time zone, also in the two nights of the year when its clocks change.

A line that does not fire in every hour (``30 2 * * *``) fires once for each wall-clock time that it names: at the
first valid moment where the clocks have skipped it, and on the first pass where they show it twice. One that fires in
every hour (``*/15 * * * *``) fires whenever the clocks show one of its minutes, and so on every real interval.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from portico_celery.adapters.job_trigger.schedule_trigger.cron_line import CronLine, read_cron_line
from portico_celery.ports.schedule import ScheduleConfig
from portico_celery.scheduling.fire_times import FireTimes

_MINUTE = timedelta(minutes=1)
_SECOND = timedelta(seconds=1)


class CronFireTimes(FireTimes):
    """The fire times of one line in one zone."""

    def __init__(self, line: CronLine, zone: ZoneInfo) -> None:
        self._line = line
        self._zone = zone
        self._minutes_to_next = _minutes_to_next(line.minutes)
        self._times = () if line.every_hour else _times_of_day(line.hours, line.minutes)
        #: The days that were asked for last, with their answers: in one piece, since threads may share it.
        self._answers: tuple[tuple[date, date | None], ...] = ()

    def after(self, moment: datetime) -> datetime | None:
        """Return the first fire time after the moment, in UTC; None where none comes."""
        try:
            return self._in_every_hour(moment) if self._line.every_hour else self._by_wall_clock(moment)
        except OverflowError:  # the end of the calendar
            return None

    def _by_wall_clock(self, moment: datetime) -> datetime | None:
        shown = moment.astimezone(self._zone).replace(tzinfo=None)
        day = self._first_day_from(shown.date())
        # What the clocks showed earlier is no later moment, so that nothing before `shown` has to be looked at.
        place = bisect_right(self._times, shown.time()) if day == shown.date() else 0
        while day is not None:
            for wall_time in self._times[place:]:
                fire = first_moment(datetime.combine(day, wall_time), self._zone)
                if fire > moment:
                    return fire
            day, place = self._first_day_from(day + timedelta(days=1)), 0
        return None

    def _in_every_hour(self, moment: datetime) -> datetime | None:
        fire = moment.astimezone(UTC).replace(second=0, microsecond=0) + _MINUTE
        while True:
            shown = fire.astimezone(self._zone)
            day = self._first_day_from(shown.date())
            if day is None:
                return None
            to_next = self._minutes_to_next[shown.minute]
            if day > shown.date():
                fire = max(fire + _MINUTE, first_moment(datetime.combine(day, time()), self._zone))
            elif not to_next:
                return fire
            elif (fire + to_next).astimezone(self._zone).utcoffset() == shown.utcoffset():
                fire += to_next
            else:  # the clocks change on the way
                fire += _MINUTE

    def _first_day_from(self, day: date) -> date | None:
        # Asking croniter takes longer than all the rest. Nearly always it is today, of which the last time may be over,
        # or a day on the way to the next one.
        for asked, answer in self._answers:
            if asked <= day and (answer is None or day <= answer):
                return answer
        answer = self._line.first_day_from(day)
        self._answers = ((day, answer), *self._answers[:1])
        return answer


# Shared by all the schedules that fire at the same times of day, of which there may be thousands.
@lru_cache(maxsize=1_000)
def _times_of_day(hours: tuple[int, ...], minutes: tuple[int, ...]) -> tuple[time, ...]:
    return tuple(time(hour, minute) for hour in hours for minute in minutes)


@lru_cache(maxsize=1_000)
def _minutes_to_next(minutes: tuple[int, ...]) -> tuple[timedelta, ...]:
    """Return for each minute of an hour how far it is to the next one that is named."""
    return tuple(min((named - minute) % 60 for named in minutes) * _MINUTE for minute in range(60))


def first_moment(wall_time: datetime, zone: ZoneInfo) -> datetime:
    """Return when the clocks of a zone first show this time (naive) or, where they skip it, a later one; in UTC."""
    moment = wall_time.replace(tzinfo=zone).astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == wall_time:
        return moment
    # In a gap, Python counts from the offset before it, and with fold=1 from the one after it.
    before = wall_time.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return _change_of_offset(before, moment, zone)


def _change_of_offset(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    old = before.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) // 2
        middle = middle.replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == old:
            before = middle
        else:
            after = middle
    return after


def read_fire_times(config: ScheduleConfig) -> CronFireTimes:
    """Read a schedule's cron line and zone. Raises InvalidSchedule."""
    return CronFireTimes(read_cron_line(config.cron, name=config.name), ZoneInfo(config.timezone))
