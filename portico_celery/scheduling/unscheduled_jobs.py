"""Jobs of schedules that no beat makes: one that somebody wants now, and those of fire times of the past."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from portico_celery.exceptions import ValidationError
from portico_celery.ports.job import Job
from portico_celery.ports.job_creator import OnceJobCreator
from portico_celery.ports.schedule_store import JobNote, ScheduleAccess
from portico_celery.scheduling.moments import as_utc
from portico_celery.scheduling.schedule import Schedule
from portico_celery.scheduling.states import begun_states_of
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

#: A call that would create more jobs than this is refused.
MOST_AT_ONCE = 10_000
_TOGETHER = 100
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Backfill:
    """The job of one fire time, and whether this call created it."""

    fire: datetime
    job: Job
    created: bool


class UnscheduledJobs:
    """Makes them, and notes each as its schedule's last job, so that overlap="skip" waits for it."""

    def __init__(self, creator: OnceJobCreator, access: ScheduleAccess) -> None:
        self._creator = creator
        self._access = access

    async def run(self, schedule: Schedule) -> Job:
        """Create a job now. It settles no fire time."""
        now = await self._begin(schedule)
        job = await self._creator.create_job(**schedule.manual_job_arguments(now))
        await self._note(JobNote(name=schedule.name, job_id=job.id))
        return job

    async def backfill(self, schedule: Schedule, start: datetime, end: datetime) -> list[Backfill]:
        """Create the job of each past fire time from ``start`` to ``end``, both included, that has none."""
        first, last = as_utc(start, "start"), as_utc(end, "end")
        if first > last:
            raise ValidationError(f"the range ends, with {last}, before it begins, with {first}", argument="end")
        until = min(last, await self._begin(schedule))
        fires = list(islice(schedule.between(first - _INSTANT, until), MOST_AT_ONCE + 1))
        if len(fires) > MOST_AT_ONCE:
            raise ValidationError(f"the range has more than {MOST_AT_ONCE:,} fire times: choose a shorter one")
        done: list[Backfill] = []
        for place in range(0, len(fires), _TOGETHER):
            done += await self._fill_all(schedule, fires[place : place + _TOGETHER])
        return done

    async def _begin(self, schedule: Schedule) -> datetime:
        # What is new has nowhere to note a job.
        now, _states = await self._access.schedules(lambda store: begun_states_of(store, [schedule]))
        return now

    async def _fill_all(self, schedule: Schedule, fires: Sequence[datetime]) -> list[Backfill]:
        outcomes = await asyncio.gather(*(self._fill(schedule, fire) for fire in fires), return_exceptions=True)
        done = [outcome for outcome in outcomes if isinstance(outcome, Backfill)]
        created = [one for one in done if one.created]
        if created:
            newest = created[-1]
            await self._note(JobNote(name=schedule.name, job_id=newest.job.id, fire=newest.fire, created=len(created)))
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return done

    async def _fill(self, schedule: Schedule, fire: datetime) -> Backfill:
        job, created = await self._creator.create_once(**schedule.job_arguments(fire))
        return Backfill(fire=fire, job=job, created=created)

    async def _note(self, note: JobNote) -> None:
        try:
            await self._access.schedules(lambda store: store.note(note))
        except Exception as error:  # noqa: BLE001  # the job is there: whoever hears of an error would make it again
            logger.warning(
                "schedule_job_not_noted",
                schedule=note.name,
                job_id=str(note.job_id),
                error=repr(error),
                hint="the job was made; the list does not show it, and overlap='skip' does not wait for it",
            )
