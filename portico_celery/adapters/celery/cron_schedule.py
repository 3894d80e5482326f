"""Our cron lines, zones and nights of daylight saving time for ``beat_schedule`` entries of ordinary tasks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from celery.schedules import BaseSchedule, schedstate

from portico_celery.adapters.job_trigger.schedule_trigger.cron_fire_times import read_fire_times
from portico_celery.ports.schedule import ScheduleConfig

# Where nothing is due any more, beat asks again after this time.
_LONG = timedelta(days=1)


class CronSchedule(BaseSchedule):
    """``{"task": "shop.tidy", "schedule": CronSchedule("30 2 * * *", "Europe/Berlin")}``, with any scheduler of beat's.

    ``name`` is what H spreads by. Raises InvalidSchedule.
    """

    def __init__(
        self, cron: str, timezone: str = "UTC", *, name: str = "", nowfun: Any = None, app: Any = None
    ) -> None:
        self.cron = cron
        self.timezone = timezone
        self.name = name
        self._fire_times = read_fire_times(ScheduleConfig(cron, "task", timezone=timezone, name=name))
        super().__init__(nowfun=nowfun, app=app)

    def _now(self) -> datetime:
        return _utc(self.now())

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Return how long it is until the next fire time."""
        fire = self._fire_times.after(_utc(last_run_at))
        return _LONG if fire is None else max(fire - self._now(), timedelta())

    def is_due(self, last_run_at: datetime) -> Any:
        """Return whether it is due, and in how many seconds to ask again."""
        now = self._now()
        fire = self._fire_times.after(_utc(last_run_at))
        if fire is None:
            return schedstate(False, _LONG.total_seconds())
        if fire > now:
            return schedstate(False, (fire - now).total_seconds())
        following = self._fire_times.after(now)
        return schedstate(True, _LONG.total_seconds() if following is None else (following - now).total_seconds())

    def __reduce__(self) -> Any:
        return _restored, (self.cron, self.timezone, self.name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CronSchedule):
            return NotImplemented
        return (self.cron, self.timezone, self.name) == (other.cron, other.timezone, other.name)

    def __hash__(self) -> int:
        return hash((self.cron, self.timezone, self.name))

    def __repr__(self) -> str:
        return f"<cron: {self.cron} {self.timezone}>"


def _restored(cron: str, timezone: str, name: str) -> CronSchedule:
    return CronSchedule(cron, timezone, name=name)


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
