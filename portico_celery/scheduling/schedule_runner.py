"""Makes the jobs of schedules when they are due: what a beat does at each tick.

For each fire time the job is created first, under an id that is the same for all beats, and only then is the fire time
settled in the store, by compare-and-set. A beat that dies in between is repeated by the next, whose creating finds the
job there. So any number of beats may run, and none leads.

A tick is one look at some of the schedules that are due, at so few of their fire times that it ends soon. What remains
is for the next ticks, in turn and after those that are on time: no schedule waits for another's long catch-up.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from portico_celery.exceptions import StoreUnavailable
from portico_celery.ports.job_creator import JobCreator
from portico_celery.ports.schedule_store import ScheduleAccess, ScheduleState, ScheduleStore, Settlement
from portico_celery.scheduling.agenda import Agenda
from portico_celery.scheduling.due_jobs import DueJobs
from portico_celery.scheduling.look import Look
from portico_celery.scheduling.runner_health import RunnerHealth
from portico_celery.scheduling.schedule import Schedule
from portico_celery.scheduling.schedule_book import check_all
from portico_celery.scheduling.settled_ahead import about_settled_ahead, is_ahead, settled_ahead
from portico_celery.scheduling.states import begun_states_of
from portico_celery.scheduling.store_clock import StoreClock

# Until a schedule whose job could not be made is tried again (seconds); doubled with each failure in a row.
_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 60.0
# By less, an answer of the store's has taken longer than the one before.
_SET_BACK = timedelta(seconds=1)
# How many schedules are looked at by one tick, and for about how many fire times it makes jobs: but as many for each.
_MOST_AT_ONCE = 100
_LEAST_FOR_EACH = 5
# Until a schedule that is paused, or is settled far ahead, is looked at again: nothing else says when that is over, and
# what is due by then is to be on time.
_LOOK_AGAIN = timedelta(seconds=10)


class ScheduleRunner:
    """Runs the schedules that are enabled. ``tick`` it again whenever it says.

    Raises, as far as the creator knows its handlers, UnknownJobType and ValidationError for jobs that can't be made.
    """

    def __init__(
        self,
        schedules: Collection[Schedule],
        creator: JobCreator,
        access: ScheduleAccess,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._schedules = {schedule.name: schedule for schedule in schedules if schedule.config.enabled}
        if isinstance(creator, JobCreator):  # one of another kind does not say beforehand what it will refuse
            check_all(schedules, creator.check_job)
        self.health = RunnerHealth()
        self._due_jobs = DueJobs(self._schedules.values(), creator, self.health)
        self._access = access
        self._clock = StoreClock(access, monotonic)
        self._agenda: Agenda | None = None
        self._looked_at: datetime | None = None
        self._failures: Counter[str] = Counter()

    async def tick(self) -> float:
        """Make the jobs that are due; return in how many seconds the next will be. An outage is logged, not raised.

        Whoever drives it ticks again by then, and after store_clock.REFRESH_SECONDS at the latest: the store's clock
        may be set.
        """
        try:
            return await self._tick()
        except StoreUnavailable as error:
            self.health.note_error("schedules_wait_for_store", error=str(error))
        except Exception as error:  # noqa: BLE001  # beat goes on, with its other entries too
            self.health.note_error("schedules_failed", error=repr(error), exc_info=error)
        self._agenda = None
        return _RETRY_SECONDS

    async def catch_up(self, name: str) -> None:
        """Deal with all that is due of one schedule. Raises what stops it, where ``tick`` would log it."""
        schedule = self._schedules[name]
        while True:
            now, states = await self._read([schedule])
            look = Look.at(schedule, states[name])
            await self._due_jobs.make(look, now, _MOST_AT_ONCE)
            settlement = look.settlement()
            if settlement is None:
                return
            await self._access.schedules(partial(_settle, settlement))

    async def _tick(self) -> float:
        agenda = await self._current_agenda()
        # What is taken from it is found again in the store, should this fail, or never come to its end.
        self._agenda = None
        names = agenda.take(await self._clock.now(), most=_MOST_AT_ONCE)
        if names:
            await self._run(agenda, [self._schedules[name] for name in names])
        wait = await self._pause(agenda)
        self._agenda = agenda
        return wait

    async def _current_agenda(self) -> Agenda:
        """Return when to look at each schedule; made anew where it is missing, or the clock has been set back."""
        now = await self._clock.now()
        if self._looked_at is not None and self._looked_at - now > _SET_BACK:
            self._agenda = None
        self._looked_at = now
        if self._agenda is None:
            agenda = Agenda()
            now, states = await self._read(list(self._schedules.values()))
            for name, schedule in self._schedules.items():
                self._plan(agenda, schedule, states[name].settled_until, now)
            self._tell_of_silence(states.values(), now)
            self._agenda = agenda
        return self._agenda

    async def _read(self, schedules: Sequence[Schedule]) -> tuple[datetime, Mapping[str, ScheduleState]]:
        now, states = await self._access.schedules(lambda store: begun_states_of(store, schedules))
        self._clock.set(now)
        return now, states

    async def _run(self, agenda: Agenda, schedules: Sequence[Schedule]) -> None:
        """Make jobs of schedules whose moment has come, settle their fire times, and plan the next look."""
        now, states = await self._read(schedules)
        most = max(_LEAST_FOR_EACH, _MOST_AT_ONCE // len(schedules))
        looks = await asyncio.gather(
            *(self._due_jobs.look_at(schedule, states[schedule.name], now, most) for schedule in schedules)
        )
        settlements = [settlement for look in looks if (settlement := look.settlement()) is not None]
        if settlements:
            # Whoever else has settled them meanwhile has made the same jobs.
            await self._access.schedules(lambda store: store.settle(settlements))
        outages = [look.error for look in looks if isinstance(look.error, StoreUnavailable)]
        if outages:
            self.health.note_error("schedules_wait_for_store", error=str(outages[0]), schedules=len(outages))
        for look in looks:
            self._plan_after(look, agenda, now)

    def _plan_after(self, look: Look, agenda: Agenda, now: datetime) -> None:
        name = look.schedule.name
        if look.made or look.error is None:
            self._failures.pop(name, None)
        if isinstance(look.error, StoreUnavailable):
            agenda.put(name, now + timedelta(seconds=_RETRY_SECONDS))
        elif look.error is not None:
            agenda.put(name, now + self._retry_delay(name))
        elif look.state.paused and look.settlement() is None:
            agenda.put(name, now + _LOOK_AGAIN)
        else:
            self._plan(agenda, look.schedule, look.settled_until, now, again=True)

    def _plan(self, agenda: Agenda, schedule: Schedule, after: datetime, now: datetime, *, again: bool = False) -> None:
        """Look at a schedule at its next fire time; where that is over, at once or, ``again``, when it is its turn."""
        try:
            fire = schedule.after(after)
        except Exception as error:  # noqa: BLE001  # one schedule that fails must not hold up the others
            self.health.note_error("schedule_failed", schedule=schedule.name, error=repr(error), exc_info=error)
            fire = now + self._retry_delay(schedule.name)
        if is_ahead(after, now):
            fire = now + _LOOK_AGAIN
        if fire is not None and fire <= now and again:
            agenda.put_back(schedule.name)
        elif fire is not None:
            agenda.put(schedule.name, max(fire, now))

    def _tell_of_silence(self, states: Iterable[ScheduleState], now: datetime) -> None:
        found = settled_ahead(states, now)
        if found:
            self.health.note_error("schedules_settled_ahead", **about_settled_ahead(found))

    async def _pause(self, agenda: Agenda) -> float:
        return max(0.0, agenda.seconds_to_next(await self._clock.now()))

    def _retry_delay(self, name: str) -> timedelta:
        self._failures[name] += 1
        seconds = _RETRY_SECONDS * 2.0 ** min(self._failures[name] - 1, 10)
        return timedelta(seconds=min(seconds, _LONGEST_RETRY_SECONDS))


def _settle(settlement: Settlement, store: ScheduleStore) -> bool:
    return store.settle([settlement]) == [True]
