"""Looks at schedules and changes what they do while beats run: list, next, pause, resume, run now, backfill."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from zoneinfo import ZoneInfo

from portico_celery.exceptions import ValidationError
from portico_celery.ports.job import Job
from portico_celery.ports.job_creator import OnceJobCreator
from portico_celery.ports.schedule import ScheduleConfig
from portico_celery.ports.schedule_store import ScheduleAccess, ScheduleState, ScheduleStore
from portico_celery.scheduling.lint import Finding, findings_of
from portico_celery.scheduling.moments import as_utc
from portico_celery.scheduling.schedule import Schedule
from portico_celery.scheduling.schedule_book import ScheduleBook
from portico_celery.scheduling.schedule_runner import ScheduleRunner
from portico_celery.scheduling.states import begun_states_of, states_of
from portico_celery.scheduling.unscheduled_jobs import MOST_AT_ONCE, Backfill, UnscheduledJobs


@dataclass(frozen=True, kw_only=True)
class ScheduleView:
    """How a schedule stands. ``next_fire`` is None where none comes, or it makes no jobs."""

    schedule: Schedule
    state: ScheduleState
    next_fire: datetime | None

    @property
    def config(self) -> ScheduleConfig:
        """Its configuration."""
        return self.schedule.config


class ScheduleService:
    """Works on an application's schedules, by name. Raises ResourceNotFoundError for one that it does not have.

    Moments that go in may be naive, which is taken as UTC; those that come out are in UTC.
    """

    def __init__(self, book: ScheduleBook, creator: OnceJobCreator, access: ScheduleAccess) -> None:
        self._book = book
        self._creator = creator
        self._access = access
        self._unscheduled = UnscheduledJobs(creator, access)

    def names(self) -> list[str]:
        """Return the names of all schedules, in order."""
        return sorted(schedule.name for schedule in self._book)

    async def list_schedules(self) -> list[ScheduleView]:
        """Return all schedules, by name, with what is remembered of them."""
        schedules = sorted(self._book, key=lambda schedule: schedule.name)
        now, states = await self._access.schedules(lambda store: states_of(store, schedules))
        return [_view(schedule, states[schedule.name], now) for schedule in schedules]

    async def get_schedule(self, name: str) -> ScheduleView:
        """Return one schedule with what is remembered of it."""
        schedule = self._book.get(name)
        now, states = await self._access.schedules(lambda store: states_of(store, [schedule]))
        return _view(schedule, states[name], now)

    def next_fires(self, name: str, count: int = 5, *, after: datetime | None = None) -> list[datetime]:
        """Return the next fire times after a moment (now), whether or not the schedule is paused."""
        if not 1 <= count <= MOST_AT_ONCE:
            raise ValidationError(f"count must be from 1 to {MOST_AT_ONCE:,}, not {count!r}")
        start = datetime.now(UTC) if after is None else as_utc(after, "after")
        end_of_time = datetime.max.replace(tzinfo=UTC)
        return list(islice(self._book.get(name).between(start, end_of_time), count))

    def lint(self) -> list[Finding]:
        """Return warnings of what may surprise the authors of schedules."""
        return findings_of(self._book, datetime.now(UTC))

    def zone(self, name: str) -> ZoneInfo:
        """Return the zone by whose clocks a schedule fires."""
        return ZoneInfo(self._book.get(name).config.timezone)

    async def pause(self, name: str) -> bool:
        """Let its fire times make no jobs from now on, whichever beat runs; True only if this call did it.

        What was due until now and has no job yet is still settled by its misfire policy.
        """
        await self._begun_state(self._book.get(name))
        return await self._access.schedules(lambda store: store.pause(name))

    async def resume(self, name: str) -> bool:
        """Let them make jobs again, from now on; True only if this call did it.

        Where no beat has settled yet what was due before it was paused, this does.
        """
        schedule = self._book.get(name)
        while (paused_at := (await self._begun_state(schedule)).paused_at) is not None:
            await ScheduleRunner([_enabled(schedule)], self._creator, self._access).catch_up(name)
            if await self._access.schedules(partial(_resume, name, paused_at)):
                return True
        return False

    async def _begun_state(self, schedule: Schedule) -> ScheduleState:
        _now, states = await self._access.schedules(lambda store: begun_states_of(store, [schedule]))
        return states[schedule.name]

    async def forget(self, name: str) -> bool:
        """Forget what is remembered of a schedule, also of one that the application no longer has.

        One that it has begins anew at once, and is not paused. True only if this call did it. Raises
        ResourceNotFoundError where the application has none of that name and nothing is remembered of one.
        """
        forgotten = await self._access.schedules(lambda store: store.forget(name))
        if not forgotten:
            self._book.get(name)
        elif name in self.names():
            # And not when a beat next meets it: that is at a fire time, which would be lost.
            await self._begun_state(self._book.get(name))
        return forgotten

    async def restart(self, name: str) -> ScheduleView:
        """Let its fire times count from now on, and return how it stands then.

        For one that was settled far ahead, while the store's clock was wrong: it makes jobs again. For one that catches
        up: what is not made up for yet is given up. Beats notice within ten seconds.
        """
        await self._begun_state(self._book.get(name))
        await self._access.schedules(lambda store: store.restart(name))
        return await self.get_schedule(name)

    async def run(self, name: str) -> Job:
        """Create a job now, beside those of the fire times; also where the schedule is paused or not enabled."""
        return await self._unscheduled.run(self._book.get(name))

    async def backfill(self, name: str, start: datetime, end: datetime) -> list[Backfill]:
        """Create the job of each past fire time from ``start`` to ``end``, both included, that has none.

        A job that ended longer ago than portico_result_ttl is no longer there, and is created again. Raises
        ValidationError for a range that is none, or has more than 10,000 fire times.
        """
        return await self._unscheduled.backfill(self._book.get(name), start, end)


def _resume(name: str, paused_at: datetime, store: ScheduleStore) -> bool:
    return store.resume(name, paused_at)


def _enabled(schedule: Schedule) -> Schedule:
    if schedule.config.enabled:
        return schedule
    # It makes no jobs: what was due is counted as missed.
    config = replace(schedule.config, enabled=True, misfire="skip", misfire_grace=0.0)
    return Schedule(config=config, fire_times=schedule.fire_times)


def _view(schedule: Schedule, state: ScheduleState, now: datetime) -> ScheduleView:
    active = schedule.config.enabled and not state.paused
    return ScheduleView(
        schedule=schedule,
        state=state,
        next_fire=schedule.after(max(now, state.settled_until)) if active else None,
    )
