"""The demo's schedule, the beat that runs it in this process, and what came of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from celery import Celery
from celery.beat import EmbeddedService

from portico_celery.compose import PorticoCelery, ScheduleConfig
from portico_celery.demo.shop import EMAIL
from portico_celery.scheduling.sync_schedule_service import SyncScheduleService

NAME = "orders-report"
TITLE = "the report of the schedule"
_MAIL = {"recipient": "owner@example.org", "subject": "The orders of this minute", "body": "See the attachment."}


class DemoSchedule:
    """A report each minute. It counts from the minute that has begun, so that its first job need not be waited for."""

    def __init__(self, portico: PorticoCelery) -> None:
        self._begun = datetime.now(UTC).replace(second=0, microsecond=0)
        self._portico = portico
        portico.schedule(ScheduleConfig("* * * * *", EMAIL, _MAIL, name=NAME, start_at=self._begun, misfire_grace=0.0))

    def last_job_id(self) -> str | None:
        """Return the job of the minute in which the demo began, or of a later one; None before it has been made."""
        state = SyncScheduleService(self._portico.schedules).get_schedule(NAME).state
        settled = state.last_fire is not None and state.last_fire >= self._begun
        return str(state.last_job_id) if settled else None


class EmbeddedBeat:
    """``celery beat`` in a thread of this process."""

    def __init__(self, app: Celery, directory: Path) -> None:
        self._thread: Any = EmbeddedService(
            app, thread=True, scheduler_cls=app.conf.beat_scheduler, schedule_filename=str(directory / "beat")
        )

    def start(self) -> None:
        """Begin to tick."""
        self._thread.start()

    def stop(self) -> None:
        """End it, after what it is doing."""
        if self._thread.is_alive():
            self._thread.stop()
