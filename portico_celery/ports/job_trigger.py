"""The port of what creates jobs from events of the outside world."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class TriggerHealth:
    """How a trigger is doing. ``last_job_created`` is the time of the last job, in UTC.

    ``ignored_count`` counts events that were understood and that no job stands for.
    """

    is_running: bool
    last_job_created: datetime | None
    jobs_created_count: int
    errors_count: int
    ignored_count: int = 0


class JobTrigger(ABC):
    """Creates jobs from events, through a JobCreator."""

    @abstractmethod
    async def start(self) -> None:
        """Begin to create jobs. Starting twice is starting once, with a warning in the log."""

    @abstractmethod
    async def stop(self) -> None:
        """Cease to create jobs, after those that are being created."""

    @property
    @abstractmethod
    def is_running(self) -> bool:
        """Whether events create jobs now."""
