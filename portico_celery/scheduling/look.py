"""One look at a schedule, and what it has come to."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from portico_celery.ports.schedule_store import ScheduleState, Settlement
from portico_celery.scheduling.schedule import Schedule


@dataclass(kw_only=True)
class Look:
    """What a look at a schedule has done so far: that much is settled, also where it fails half-way."""

    schedule: Schedule
    state: ScheduleState
    settled_until: datetime
    owed_until: datetime | None
    last_job: UUID | None
    made: list[datetime] = field(default_factory=list)
    missed: int = 0
    skipped: int = 0
    error: Exception | None = None

    @classmethod
    def at(cls, schedule: Schedule, state: ScheduleState) -> Look:
        """Begin a look at a schedule, of which that is remembered."""
        return cls(
            schedule=schedule,
            state=state,
            settled_until=state.settled_until,
            owed_until=state.owed_until,
            last_job=state.last_job_id,
        )

    def settlement(self) -> Settlement | None:
        """Return what to settle; None where nothing has been done."""
        seen = self.state
        if (self.settled_until, self.owed_until) == (seen.settled_until, seen.owed_until):
            return None
        return Settlement(
            name=self.schedule.name,
            seen=seen.settled_until,
            settled_until=self.settled_until,
            seen_owed_until=seen.owed_until,
            owed_until=self.owed_until,
            fire=self.made[-1] if self.made else None,
            job_id=self.last_job if self.made else None,
            created=len(self.made),
            missed=self.missed,
            skipped=self.skipped,
        )
