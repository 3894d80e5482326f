"""A schedule that has been read: its configuration, its fire times, and the jobs that it makes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from portico_celery.ports.schedule import ScheduleConfig
from portico_celery.scheduling.fire_times import FireTimes

#: Keys of a job's metadata: the schedule that made it, and the fire time that it is for.
SCHEDULE_KEY = "schedule"
SCHEDULED_FOR_KEY = "scheduled_for"

#: A JobCreator's ``check_job``.
CheckJob = Callable[..., object]

# Any UUID, as long as it stays the same: by it all beats, of all versions, give a fire time's job the same id.
_NAMESPACE = UUID("5f3b0a50-0c36-4b62-a8b5-7e5a2a4d1c11")
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One schedule, within its window of time."""

    config: ScheduleConfig
    fire_times: FireTimes

    @property
    def name(self) -> str:
        """Its identity."""
        return self.config.name

    def after(self, moment: datetime) -> datetime | None:
        """Return the first fire time after the moment, from start_at to end_at; None where there is none.

        Raises ValueError where the source of its fire times goes no further, so that nobody waits for it for ever.
        """
        config = self.config
        if config.start_at is not None:
            moment = max(moment, config.start_at - _INSTANT)
        fire = self.fire_times.after(moment)
        if fire is not None and fire <= moment:
            raise ValueError(f"the fire time after {moment} can't be {fire}, as {self.fire_times!r:.80} says")
        return None if fire is None or (config.end_at is not None and fire > config.end_at) else fire

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the fire times after the one moment and up to the other, that one included."""
        fire = self.after(after)
        while fire is not None and fire <= until:
            yield fire
            fire = self.after(fire)

    def first_sight(self, now: datetime) -> datetime:
        """Return the moment after which its fire times count, where it is new."""
        start = self.config.start_at
        return now if start is None else min(now, start - _INSTANT)

    def job_id(self, fire: datetime) -> UUID:
        """Return the id of the one job of a fire time."""
        return uuid5(_NAMESPACE, f"{self.name}\n{fire.astimezone(UTC).isoformat()}")

    def job_arguments(self, fire: datetime) -> dict[str, Any]:
        """Return the arguments by which a JobCreator makes the job of a fire time."""
        delay = self._delay(fire)
        arguments = {**self._arguments(fire), "job_id": self.job_id(fire)}
        return arguments if delay is None else {**arguments, "scheduled_at": fire + delay}

    def check(self, check_job: CheckJob) -> None:
        """Raise what a creator has against the jobs that this makes."""
        check_job(**self.job_arguments(datetime.now(UTC)))

    def manual_job_arguments(self, now: datetime) -> dict[str, Any]:
        """Return the arguments of a job that somebody wants now, beside those of the fire times."""
        return self._arguments(now, manual=True)

    def _arguments(self, moment: datetime, **metadata: Any) -> dict[str, Any]:
        config = self.config
        mark = {SCHEDULE_KEY: self.name, SCHEDULED_FOR_KEY: moment.astimezone(UTC).isoformat()}
        arguments: dict[str, Any] = {
            "job_type": config.job_type,
            "payload": dict(config.payload),
            "queue_name": config.queue_name,
            "priority": config.priority,
            "metadata": {**config.metadata, **mark, **metadata},
        }
        return arguments if config.max_retries is None else {**arguments, "max_retries": config.max_retries}

    def _delay(self, fire: datetime) -> timedelta | None:
        if not self.config.jitter:
            return None
        # Not by chance: all beats have to make the same job.
        digest = hashlib.sha256(self.job_id(fire).bytes).digest()
        return timedelta(seconds=self.config.jitter * int.from_bytes(digest[:6], "big") / 2**48)
