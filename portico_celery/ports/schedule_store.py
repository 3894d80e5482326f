"""Our port of what is remembered of schedules, beside the jobs and by the same clock, so that all beats agree."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ScheduleState:
    """What is remembered of one schedule.

    All fire times up to ``settled_until``, that one included, have had their job or have been given up. Where
    ``owed_until`` is later, those from there up to it are to have their job, however late that will be. While it is
    paused, none after ``paused_at`` makes a job. ``last_fire`` is the newest fire time that has a job; ``last_job_id``
    is the job that was made last, be it for a fire time or because somebody wanted one. ``created`` counts the fire
    times that were given a job, ``missed`` those given up by the misfire policy, ``skipped`` those that found the last
    job still open.
    """

    name: str
    settled_until: datetime
    owed_until: datetime | None = None
    paused_at: datetime | None = None
    last_fire: datetime | None = None
    last_job_id: UUID | None = None
    created: int = 0
    missed: int = 0
    skipped: int = 0

    @property
    def paused(self) -> bool:
        """Whether its fire times make no jobs now."""
        return self.paused_at is not None


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """A beat has dealt with the fire times after ``seen`` and up to ``settled_until``.

    It takes effect where nobody has settled them meanwhile, or decided upon them: where the schedule's settled_until
    and owed_until are still ``seen`` and ``seen_owed_until``. ``fire`` and ``job_id`` are the newest that it made:
    where it takes effect that job is the last one, and where it does not it is so only if no newer fire is known.
    """

    name: str
    seen: datetime
    settled_until: datetime
    seen_owed_until: datetime | None = None
    owed_until: datetime | None = None
    fire: datetime | None = None
    job_id: UUID | None = None
    created: int = 0
    missed: int = 0
    skipped: int = 0


@dataclass(frozen=True, kw_only=True)
class JobNote:
    """Jobs were made that no beat settles: by hand, or for fire times of the past.

    ``job_id`` is the newest. ``fire`` is its fire time, None for a job by hand; ``created`` is how many fire times
    were given one.
    """

    name: str
    job_id: UUID
    fire: datetime | None = None
    created: int = 0


@dataclass(frozen=True, kw_only=True)
class FirstSight:
    """A schedule that somebody has met: its fire times count from after this moment, where it is new."""

    name: str
    settled_until: datetime


class ScheduleStore(ABC):
    """Keeps the state of schedules. Each method is atomic, and may raise StoreUnavailable or another StoreError."""

    @abstractmethod
    def clock(self) -> datetime:
        """Return the store's own time, by which schedules are due: aware and in UTC."""

    @abstractmethod
    def begin(self, sights: Sequence[FirstSight]) -> None:
        """Remember the schedules that are new; the others stay as they are."""

    @abstractmethod
    def read(self, names: Sequence[str]) -> dict[str, ScheduleState]:
        """Return what is remembered, by name; names that are unknown are left out."""

    @abstractmethod
    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Settle fire times: for each whether it took effect."""

    @abstractmethod
    def note(self, note: JobNote) -> None:
        """Remember the job as the last one, whatever is settled. An unknown schedule stays unknown."""

    @abstractmethod
    def pause(self, name: str) -> bool:
        """Let the fire times of a schedule make no jobs from now on. True only if this call did it."""

    @abstractmethod
    def resume(self, name: str, paused_at: datetime) -> bool:
        """Let them make jobs again, from now on: all until now is settled. True only if this call did it.

        False where it is not paused, or has been paused anew since ``paused_at``.
        """

    @abstractmethod
    def forget(self, name: str) -> bool:
        """Forget a schedule: where it is met again, it is new. True only if this call did it."""

    @abstractmethod
    def restart(self, name: str) -> bool:
        """Let its fire times count from now on, whatever was settled; False where it is unknown."""


class ScheduleAccess(ABC):
    """Reaches a schedule store from coroutines."""

    @abstractmethod
    async def schedules(self, call: Callable[[ScheduleStore], T]) -> T:
        """Make a call of the store, and return its answer. Raises NotSupported where there is none."""
