"""What transitions ask of a row, and the clock that they ask by."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import ColumnElement, FromClause, and_

from portico_celery import lifecycle
from portico_celery.adapters.job_store.sql_schema import JOBS
from portico_celery.ports.job import JobStatus

#: The database's time in a statement, in microseconds since the epoch.
Now = ColumnElement[int]
#: Asked for each statement anew: where the time is not the server's, a statement may have waited for another.
Clock = Callable[[], Now]

WAITING = JOBS.c.status.in_([status.value for status in lifecycle.WAITING])
RUNNING = JOBS.c.status == JobStatus.RUNNING.value
OWES_LOSS_NOTICE = and_(JOBS.c.worker_lost, JOBS.c.status == JobStatus.DEAD_LETTER.value)
TERMINAL = JOBS.c.status.in_([status.value for status in lifecycle.TERMINAL])


def held_by(batch: FromClause) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of a row that runs in an attempt of a batch with the columns ``id`` and ``attempt``."""
    return JOBS.c.id == batch.c.id, JOBS.c.attempt == batch.c.attempt, RUNNING
