"""The store's time, without asking the store each time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from portico_celery.ports.schedule_store import ScheduleAccess

# After so long (seconds) the store is asked again: its clock may have been set, and ours may run fast.
REFRESH_SECONDS = 5.0


class StoreClock:
    """Counts on from the store's last word by ``monotonic``, which nobody sets."""

    def __init__(self, access: ScheduleAccess, monotonic: Callable[[], float]) -> None:
        self._access = access
        self._monotonic = monotonic
        self._told: datetime | None = None
        self._told_at = 0.0

    async def now(self) -> datetime:
        """Return the store's time, asking where it has been a while. Raises StoreUnavailable."""
        told = self._told
        if told is None or self._monotonic() - self._told_at >= REFRESH_SECONDS:
            told = await self._access.schedules(lambda store: store.clock())
            self.set(told)
        return told + timedelta(seconds=self._monotonic() - self._told_at)

    def set(self, now: datetime) -> None:
        """Take the store's word, just heard."""
        self._told, self._told_at = now, self._monotonic()
