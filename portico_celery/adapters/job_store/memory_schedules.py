"""What is remembered of schedules, in this process's memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from portico_celery.ports.schedule_store import FirstSight, JobNote, ScheduleState, ScheduleStore, Settlement


class MemoryScheduleStore(ScheduleStore):
    """Keeps states in a dict under one lock."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._states: dict[str, ScheduleState] = {}

    def clock(self) -> datetime:
        """Return the time."""
        return self._now()

    def begin(self, sights: Sequence[FirstSight]) -> None:
        """Remember the schedules that are new."""
        with self._lock:
            for sight in sights:
                self._states.setdefault(sight.name, ScheduleState(name=sight.name, settled_until=sight.settled_until))

    def read(self, names: Sequence[str]) -> dict[str, ScheduleState]:
        """Return what is remembered, by name."""
        with self._lock:
            return {name: self._states[name] for name in names if name in self._states}

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Settle fire times."""
        with self._lock:
            return [self._settle(settlement) for settlement in settlements]

    def _settle(self, settlement: Settlement) -> bool:
        state = self._states.get(settlement.name)
        if state is None:
            return False
        effective = (state.settled_until, state.owed_until) == (settlement.seen, settlement.seen_owed_until)
        newer = _is_newer(settlement.fire, state)
        if newer:
            state = replace(state, last_fire=settlement.fire)
        if newer or (effective and settlement.job_id is not None):
            state = replace(state, last_job_id=settlement.job_id)
        if effective:
            state = replace(
                state,
                settled_until=settlement.settled_until,
                owed_until=settlement.owed_until,
                created=state.created + settlement.created,
                missed=state.missed + settlement.missed,
                skipped=state.skipped + settlement.skipped,
            )
        self._states[settlement.name] = state
        return effective

    def note(self, note: JobNote) -> None:
        """Remember the job as the last one."""
        with self._lock:
            state = self._states.get(note.name)
            if state is None:
                return
            self._states[note.name] = replace(
                state,
                last_job_id=note.job_id,
                last_fire=note.fire if _is_newer(note.fire, state) else state.last_fire,
                created=state.created + note.created,
            )

    def pause(self, name: str) -> bool:
        """Let a schedule make no jobs from now on."""
        with self._lock:
            state = self._states.get(name)
            if state is None or state.paused:
                return False
            self._states[name] = replace(state, paused_at=self._now())
            return True

    def resume(self, name: str, paused_at: datetime) -> bool:
        """Let it make jobs again, from now on."""
        with self._lock:
            state = self._states.get(name)
            if state is None or state.paused_at != paused_at:
                return False
            settled_until = max(state.settled_until, self._now())
            self._states[name] = replace(state, paused_at=None, settled_until=settled_until, owed_until=None)
            return True

    def forget(self, name: str) -> bool:
        """Forget a schedule."""
        with self._lock:
            return self._states.pop(name, None) is not None

    def restart(self, name: str) -> bool:
        """Let its fire times count from now on."""
        with self._lock:
            state = self._states.get(name)
            if state is None:
                return False
            now = self._now()
            last_fire = None if state.last_fire is None else min(state.last_fire, now)
            self._states[name] = replace(state, settled_until=now, owed_until=None, last_fire=last_fire)
            return True


def _is_newer(fire: datetime | None, state: ScheduleState) -> bool:
    return fire is not None and (state.last_fire is None or state.last_fire < fire)
