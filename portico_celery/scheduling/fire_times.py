"""Where fire times come from."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from portico_celery.ports.schedule import ScheduleConfig


class FireTimes(Protocol):
    """An endless or ending row of moments."""

    def after(self, moment: datetime) -> datetime | None:
        """Return the first one after the moment (aware), in UTC; None where there is none."""


ReadFireTimes = Callable[[ScheduleConfig], FireTimes]
"""Reads a configuration's cron line and zone. Raises InvalidSchedule."""
