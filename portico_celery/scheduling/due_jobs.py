"""Makes the jobs of a schedule's fire times that are due."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from portico_celery.exceptions import ConfigurationError, StoreUnavailable
from portico_celery.lifecycle import TERMINAL
from portico_celery.ports.job_creator import JobCreator
from portico_celery.ports.job_reader import JobReader
from portico_celery.ports.schedule_store import ScheduleState
from portico_celery.scheduling.due import due
from portico_celery.scheduling.look import Look
from portico_celery.scheduling.runner_health import RunnerHealth
from portico_celery.scheduling.schedule import Schedule
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)


class DueJobs:
    """Creates jobs for schedules; what it has done stands in the look at each, also where it fails half-way.

    Raises ConfigurationError where a schedule has to look up its last job, and the creator can't.
    """

    def __init__(self, schedules: Iterable[Schedule], creator: JobCreator, health: RunnerHealth) -> None:
        self._creator = creator
        self._reader = _reader_for(schedules, creator)
        self._health = health

    async def look_at(self, schedule: Schedule, state: ScheduleState, now: datetime, most: int) -> Look:
        """Make the jobs that are due, for at most so many fire times. What goes wrong is the look's ``error``."""
        look = Look.at(schedule, state)
        try:
            await self.make(look, now, most)
        except StoreUnavailable as error:
            look.error = error
        except Exception as error:  # noqa: BLE001  # one schedule that fails must not hold up the others
            look.error = error
            self._health.note_error("schedule_failed", schedule=schedule.name, error=repr(error), exc_info=error)
        if look.missed or look.skipped:
            logger.warning("fire_times_given_up", schedule=schedule.name, missed=look.missed, still_open=look.skipped)
        return look

    async def make(self, look: Look, now: datetime, most: int) -> None:
        """Create the job of each fire time that is due, the oldest first, or decide which are to have one."""
        schedule = look.schedule
        found = due(
            schedule,
            look.settled_until,
            now,
            paused_at=look.state.paused_at,
            owed_until=look.owed_until,
            most=most,
        )
        look.missed, look.settled_until = found.missed, found.missed_until or look.settled_until
        for fire in found.fires:
            if schedule.config.overlap == "skip" and look.last_job is not None and await self._is_open(look.last_job):
                look.skipped += 1
            else:
                await self._creator.create_job(**schedule.job_arguments(fire))
                look.last_job = schedule.job_id(fire)
                look.made.append(fire)
                late = (now - fire).total_seconds()
                self._health.note_job(schedule, fire, job_id=str(look.last_job), late=late)
            look.settled_until = fire
        look.owed_until = found.owed_until

    async def _is_open(self, job_id: object) -> bool:
        job = None if self._reader is None else await self._reader.get_job(str(job_id))
        return job is not None and job.status not in TERMINAL


def _reader_for(schedules: Iterable[Schedule], creator: JobCreator) -> JobReader | None:
    if isinstance(creator, JobReader):
        return creator
    for schedule in schedules:
        if schedule.config.overlap == "skip":
            raise ConfigurationError(
                f"schedule {schedule.name!r}: overlap='skip' has to look up its last job, and "
                f"{type(creator).__qualname__} is no JobReader: use a JobService, or overlap='allow'"
            )
    return None
