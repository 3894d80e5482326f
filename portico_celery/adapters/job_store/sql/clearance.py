"""Deleting, in SQL, what ended long ago: now and then, some at once."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, Select, delete, select

from portico_celery.adapters.job_store.sql.conditions import TERMINAL, Now
from portico_celery.adapters.job_store.sql_schema import ATTEMPTS, ENDED_AT, JOBS
from portico_celery.adapters.job_store.stored_values import seconds_to_micros

_PAUSE_SECONDS = 60.0
_MOST_DELETED = 500


class Clearance:
    """Says when it is time, and deletes what ended ``keep_seconds`` ago."""

    def __init__(self, keep_seconds: float) -> None:
        self._keep_seconds = keep_seconds
        self._next = 0.0

    def begins(self, clock_offset: float) -> bool:
        """Whether to delete now. Who is told so is the only one for a while."""
        clock = time.monotonic() + clock_offset
        if clock < self._next:
            return False
        self._next = clock + _PAUSE_SECONDS
        return True

    def delete(self, connection: Connection, now: Now) -> None:
        """Delete some of what ended long ago, in the transaction of the connection; where there is more, soon again."""
        ids = connection.scalars(_ended_long_ago(now, self._keep_seconds)).all()
        connection.execute(delete(ATTEMPTS).where(ATTEMPTS.c.job_id.in_(ids)))
        connection.execute(delete(JOBS).where(JOBS.c.id.in_(ids), TERMINAL))
        if len(ids) == _MOST_DELETED:
            self._next -= _PAUSE_SECONDS


def _ended_long_ago(now: Now, keep_seconds: float) -> Select[Any]:
    old = now - seconds_to_micros(keep_seconds) > ENDED_AT
    found = select(JOBS.c.id).where(JOBS.c.due_at.is_(None), old, TERMINAL)
    return found.limit(_MOST_DELETED).with_for_update(skip_locked=True)
