"""What the sweep does in SQL: it finds what is due, and moves the due time of the rows to knock for."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Connection, Integer, Select, Update, case, cast, func, literal, select, update

from portico_celery import lifecycle
from portico_celery.adapters.job_store.sql.conditions import RUNNING, Clock, Now
from portico_celery.adapters.job_store.sql.rows import claimed_of, knock_of
from portico_celery.adapters.job_store.sql_schema import JOBS
from portico_celery.adapters.job_store.stored_values import seconds_to_micros
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_store import DueWork


def take_due(connection: Connection, clock: Clock, *, limit: int, knock_seconds: float) -> DueWork:
    """Find what is due; a sweep that finds nothing only reads."""
    next_due_in = _next_due_in(connection, clock())
    if next_due_in is None or next_due_in > 0:
        return DueWork(knocks=(), expired=(), next_due_in=next_due_in)
    now = clock()
    expired = connection.execute(_expired(now, limit)).all()
    knocked = connection.execute(_knock(now, limit, knock_seconds)).all()
    more = limit in (len(expired), len(knocked))
    return DueWork(
        knocks=tuple(knock_of(row) for row in knocked),
        expired=tuple(claimed_of(row) for row in expired),
        next_due_in=0.0 if more else _next_due_in(connection, clock(), after=now),
    )


def _next_due_in(connection: Connection, now: Now, after: Now | None = None) -> float | None:
    wait = select(func.min(JOBS.c.due_at) - now)
    if after is not None:
        wait = wait.where(JOBS.c.due_at > after)
    microseconds = connection.scalar(wait)
    return None if microseconds is None else max(0.0, microseconds / 1_000_000)


def _expired(now: Now, limit: int) -> Select[Any]:
    return select(JOBS).where(JOBS.c.due_at <= now, RUNNING).order_by(JOBS.c.due_at).limit(limit)


def _knock(now: Now, limit: int, knock_seconds: float) -> Update:
    due = select(JOBS.c.id).where(JOBS.c.due_at <= now, ~RUNNING).order_by(JOBS.c.due_at).limit(limit)
    most = lifecycle.MAX_KNOCK_DOUBLINGS
    doublings = case((JOBS.c.knocks < most, JOBS.c.knocks), else_=most)
    delay = literal(seconds_to_micros(knock_seconds), BigInteger) * cast(literal(1).op("<<")(doublings), Integer)
    longest = seconds_to_micros(lifecycle.MAX_KNOCK_SECONDS)
    return (
        update(JOBS)
        # Where many workers sweep, each takes what no other has in hand.
        .where(JOBS.c.id.in_(due.with_for_update(skip_locked=True)))
        .values(
            status=case((JOBS.c.status == JobStatus.SCHEDULED.value, JobStatus.PENDING.value), else_=JOBS.c.status),
            due_at=now + case((delay < longest, delay), else_=longest),
            knocks=JOBS.c.knocks + 1,
        )
        .returning(JOBS)
    )
