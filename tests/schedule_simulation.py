"""Beats whose time is turned by the test: the store's clock and the beats' own are one number."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from portico_celery.adapters.job_queue.memory_queue import MemoryJobQueueAdapter
from portico_celery.adapters.job_store.memory_store import MemoryJobStore
from portico_celery.adapters.job_trigger.schedule_trigger.cron_fire_times import read_fire_times
from portico_celery.exceptions import StoreUnavailable
from portico_celery.kits.job import JobService
from portico_celery.ports.job import Job
from portico_celery.ports.job_creator import JobCreator
from portico_celery.ports.job_reader import JobFilter
from portico_celery.ports.schedule import ScheduleConfig
from portico_celery.ports.schedule_store import ScheduleAccess, ScheduleState, ScheduleStore
from portico_celery.scheduling.fire_times import FireTimes
from portico_celery.scheduling.schedule_book import ScheduleBook
from portico_celery.scheduling.schedule_runner import ScheduleRunner
from portico_celery.scheduling.schedule_service import ScheduleService

T = TypeVar("T")

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


class EverySeconds(FireTimes):
    """Fires at whole multiples of some seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def after(self, moment: datetime) -> datetime | None:
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        return epoch + timedelta(seconds=((moment - epoch).total_seconds() // self._seconds + 1) * self._seconds)


def daily(cron: str = "0 * * * *", **settings: Any) -> ScheduleConfig:
    """A configuration that needs no more than a test says of it."""
    return ScheduleConfig(cron, settings.pop("job_type", "report.daily"), **{"name": "daily", **settings})


@dataclass
class Simulation:
    """A store, and the beats that run schedules on it. ``now`` is the store's clock."""

    configs: Sequence[ScheduleConfig]
    now: datetime = NOON
    monotonic: float = 0.0
    fire_times: FireTimes | None = None
    shared: MemoryJobStore | None = None
    store: MemoryJobStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = self.shared or MemoryJobStore(now=lambda: self.now)
        self.jobs = JobService(MemoryJobQueueAdapter(store=self.store))
        self.book = ScheduleBook(read_fire_times)
        for config in self.configs:
            self.book.add(config, fire_times=self.fire_times)
        self.service = self.service_of(self.jobs)

    def service_of(self, jobs: JobService) -> ScheduleService:
        """What people look at schedules by, over that job service."""
        return ScheduleService(self.book, jobs, jobs)

    def beat(self, creator: JobCreator | None = None, access: ScheduleAccess | None = None) -> ScheduleRunner:
        """A beat that has just been started."""
        return ScheduleRunner(self.book, creator or self.jobs, access or self.jobs, monotonic=lambda: self.monotonic)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)
        self.monotonic += seconds

    def set_clock(self, seconds: float) -> None:
        """Set the clock forward or back, with no time passing but what it takes to be noticed."""
        self.now += timedelta(seconds=seconds)
        self.advance(10)

    def run(self, beats: Iterable[ScheduleRunner], until: datetime, *, longest: float = 3_600 * 24) -> None:
        """Tick beats, each as soon as it wants, until the clock shows that time."""
        beats = list(beats)

        async def tick_all() -> None:
            while self.now <= until:
                waits = [await beat.tick() for beat in beats]
                self.advance(min(*waits, longest, max((until - self.now).total_seconds(), 0) + 1))

        asyncio.run(tick_all())

    def tick(self, beat: ScheduleRunner) -> float:
        """Tick once."""
        return asyncio.run(beat.tick())

    def created(self, name: str | None = None) -> list[Job]:
        """All jobs, the oldest first, or those of one schedule."""
        found: list[Job] = []
        cursor: str | None = None
        while True:
            page = self.store.list_jobs(JobFilter(limit=1_000, cursor=cursor))
            found += page.jobs
            cursor = page.next_cursor
            if cursor is None:
                return [job for job in reversed(found) if name in (None, job.metadata.get("schedule"))]

    def fires(self, name: str | None = None) -> list[datetime]:
        """The fire times that have a job, in order."""
        return sorted(datetime.fromisoformat(job.metadata["scheduled_for"]) for job in self.created(name))

    def state(self, name: str = "daily") -> ScheduleState:
        """What the store remembers."""
        return self.store.schedules().read([name])[name]

    def state_or_none(self, name: str = "daily") -> ScheduleState | None:
        """What the store remembers, if anything."""
        return self.store.schedules().read([name]).get(name)


class FailingJobs(JobCreator, ScheduleAccess):
    """A job service whose store fails by chance, before or after it has done what was asked."""

    def __init__(self, jobs: JobService, chances: random.Random, rate: float) -> None:
        self._jobs = jobs
        self._chances = chances
        self._rate = rate
        self.failures = 0

    def _may_fail(self) -> None:
        if self._chances.random() < self._rate:
            self.failures += 1
            raise StoreUnavailable("by chance")

    async def create_job(
        self, job_type: str, payload: dict[str, Any], queue_name: str = "default", priority: int = 0, **kwargs: Any
    ) -> Job:
        self._may_fail()
        job = await self._jobs.create_job(job_type, payload, queue_name, priority, **kwargs)
        self._may_fail()
        return job

    async def schedules(self, call: Callable[[ScheduleStore], T]) -> T:
        self._may_fail()
        answer = await self._jobs.schedules(call)
        self._may_fail()
        return answer
