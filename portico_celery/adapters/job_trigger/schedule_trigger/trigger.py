"""Schedules in the application's own process: Celery beat's service in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from celery import Celery
from celery.beat import EmbeddedService

from portico_celery import event_loop
from portico_celery.adapters.celery.beat_scheduler import TickScheduler
from portico_celery.adapters.job_store.memory_schedules import MemoryScheduleStore
from portico_celery.adapters.job_trigger.schedule_trigger.cron_fire_times import read_fire_times
from portico_celery.exceptions import NotSupported, PorticoError
from portico_celery.ports.job_creator import JobCreator
from portico_celery.ports.job_trigger import JobTrigger, TriggerHealth
from portico_celery.ports.schedule import ScheduleConfig
from portico_celery.ports.schedule_store import ScheduleAccess, ScheduleStore
from portico_celery.scheduling.schedule_book import ScheduleBook
from portico_celery.scheduling.schedule_runner import ScheduleRunner
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

T = TypeVar("T")


class ScheduleTrigger(JobTrigger):
    """Creates the jobs of schedules while it runs, whether or not a ``celery beat`` does as well.

    What has been fired is remembered beside the jobs, where the creator is a JobService on this package's stores. With
    any other creator it is remembered in this process alone: what is due while it is down is not caught up.

    Raises InvalidSchedule, ConfigurationError for a name that stands twice, and what the creator knows to be wrong:
    UnknownJobType, ValidationError.
    """

    def __init__(self, job_creator: JobCreator, schedules: Iterable[ScheduleConfig]) -> None:
        self._creator = job_creator
        self._book = ScheduleBook(read_fire_times)
        for config in schedules:
            self._book.add(config)
        self._memory = _InMemory()
        # Both are kept from one start to the next.
        self._access: ScheduleAccess | None = None
        self._runner = ScheduleRunner(self._book, job_creator, self._memory)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beat: Any = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Begin to create jobs. Starting twice is starting once, with a warning in the log."""
        async with self._starting:
            await self._start()

    async def _start(self) -> None:
        if self.is_running:
            logger.warning("trigger_already_running", trigger="schedule")
            return
        if self._access is None:
            self._access = await self._find_access()
            self._runner = ScheduleRunner(self._book, self._creator, self._access)
        if getattr(self._creator, "needs_event_loop", True):
            # Its clients may be bound to this loop.
            self._loop = asyncio.get_running_loop()
        app = Celery("portico-schedules", broker="memory://", set_as_current=False)
        scheduler = partial(TickScheduler, tick_ours=self._tick)
        self._beat = EmbeddedService(app, thread=True, scheduler_cls=scheduler)
        self._beat.start()
        logger.info("schedule_trigger_started", schedules=[schedule.name for schedule in self._book])

    async def stop(self) -> None:
        """Cease to create jobs, after those that are being created."""
        beat, self._beat = self._beat, None
        if beat is None or not beat.is_alive():
            return
        await asyncio.to_thread(beat.stop)
        logger.info("schedule_trigger_stopped")

    @property
    def is_running(self) -> bool:
        """Whether schedules create jobs now."""
        return self._beat is not None and bool(self._beat.is_alive())

    def health(self) -> TriggerHealth:
        """Say how it is doing; the counts are this process's."""
        done = self._runner.health
        return TriggerHealth(
            is_running=self.is_running,
            last_job_created=done.last_job_created,
            jobs_created_count=done.jobs_created,
            errors_count=done.errors,
        )

    def _tick(self) -> float:
        loop = self._loop
        if loop is None or not loop.is_running():
            return event_loop.submit(self._runner.tick()).result()
        ticking = asyncio.run_coroutine_threadsafe(self._runner.tick(), loop)
        while loop.is_running():
            with suppress(TimeoutError):
                return ticking.result(timeout=1.0)
        # The loop has ended under it, and will not take it up again.
        ticking.cancel()
        return 0.0

    async def _find_access(self) -> ScheduleAccess:
        if not isinstance(self._creator, ScheduleAccess):
            return self._memory
        try:
            await self._creator.schedules(lambda store: store.read([]))
        except NotSupported as error:
            logger.warning("schedules_remembered_in_memory", reason=str(error))
            return self._memory
        except PorticoError as error:  # it may be away: that is for the ticks
            logger.warning("schedules_wait_for_store", error=str(error))
        return self._creator


class _InMemory(ScheduleAccess):
    """The state of schedules in this process's memory."""

    def __init__(self) -> None:
        self._store = MemoryScheduleStore(lambda: datetime.now(UTC))

    async def schedules(self, call: Callable[[ScheduleStore], T]) -> T:
        """Make a call of the store."""
        return call(self._store)
