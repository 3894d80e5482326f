"""What the store remembers of schedules, those included that it has not met so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from portico_celery.ports.schedule_store import FirstSight, ScheduleState, ScheduleStore
from portico_celery.scheduling.schedule import Schedule


def begun_states_of(
    store: ScheduleStore, schedules: Sequence[Schedule]
) -> tuple[datetime, Mapping[str, ScheduleState]]:
    """Return the store's time and the state of each schedule, by name. Those that are new begin with this."""
    now = store.clock()
    states = store.read([schedule.name for schedule in schedules])
    new = [schedule for schedule in schedules if schedule.name not in states]
    if new:
        store.begin([FirstSight(name=schedule.name, settled_until=schedule.first_sight(now)) for schedule in new])
        states |= store.read([schedule.name for schedule in new])
    return now, states


def states_of(store: ScheduleStore, schedules: Sequence[Schedule]) -> tuple[datetime, Mapping[str, ScheduleState]]:
    """Return the same and change nothing: one that is new is as if it began now."""
    now = store.clock()
    unknown = {
        schedule.name: ScheduleState(name=schedule.name, settled_until=schedule.first_sight(now))
        for schedule in schedules
    }
    return now, unknown | store.read(list(unknown))
