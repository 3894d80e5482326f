"""The schedule service's face for synchronous callers: commands, views, scripts."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime
from typing import Any, TypeVar

from portico_celery.event_loop import wait
from portico_celery.ports.job import Job
from portico_celery.scheduling.schedule_service import ScheduleService, ScheduleView
from portico_celery.scheduling.unscheduled_jobs import Backfill

T = TypeVar("T")


class SyncScheduleService:
    """Every method is that of ScheduleService, waited for. In a thread with an event loop it raises RuntimeError."""

    def __init__(self, service: ScheduleService) -> None:
        self._service = service
        self.names = service.names
        self.next_fires = service.next_fires
        self.lint = service.lint
        self.zone = service.zone

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return wait(coroutine)

    def list_schedules(self) -> list[ScheduleView]:
        """Return all schedules, by name, with what is remembered of them."""
        return self._wait(self._service.list_schedules())

    def get_schedule(self, name: str) -> ScheduleView:
        """Return one schedule with what is remembered of it."""
        return self._wait(self._service.get_schedule(name))

    def pause(self, name: str) -> bool:
        """Let its fire times make no jobs from now on, whichever beat runs; True only if this call did it."""
        return self._wait(self._service.pause(name))

    def resume(self, name: str) -> bool:
        """Let them make jobs again, from now on; True only if this call did it."""
        return self._wait(self._service.resume(name))

    def forget(self, name: str) -> bool:
        """Forget what is remembered of a schedule, also of one that the application no longer has."""
        return self._wait(self._service.forget(name))

    def restart(self, name: str) -> ScheduleView:
        """Let its fire times count from now on, and return how it stands then."""
        return self._wait(self._service.restart(name))

    def run(self, name: str) -> Job:
        """Create a job now, beside those of the fire times."""
        return self._wait(self._service.run(name))

    def backfill(self, name: str, start: datetime, end: datetime) -> list[Backfill]:
        """Create the job of each past fire time of a range that has none."""
        return self._wait(self._service.backfill(name, start, end))
