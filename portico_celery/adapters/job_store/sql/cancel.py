"""Cancelling a job in SQL."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Update, select, update

from portico_celery import lifecycle
from portico_celery.adapters.job_store.sql.conditions import RUNNING, WAITING, Clock, Now
from portico_celery.adapters.job_store.sql.history import attempt_row, remember
from portico_celery.adapters.job_store.sql_schema import JOBS
from portico_celery.ports.job import JobStatus


def cancel_waiting(connection: Connection, job_id: UUID, now: Now) -> bool:
    """Cancel a job that has not started or waits for a retry, in one statement."""
    return connection.execute(_update(job_id, WAITING, now)).one_or_none() is not None


def cancel_even_running(connection: Connection, job_id: UUID, clock: Clock) -> bool:
    """Cancel a job that waits or runs, in the transaction of the connection."""
    # Nobody claims or finishes it until it is clear which of the two it is: waiting or running.
    row = connection.execute(select(JOBS).where(JOBS.c.id == job_id).with_for_update()).one_or_none()
    if row is None:
        return False
    if row.status != JobStatus.RUNNING:
        return cancel_waiting(connection, job_id, clock())
    cancelled = connection.execute(_update(job_id, RUNNING, clock())).one()
    remember(connection, [attempt_row(row, lifecycle.CANCELLED_MESSAGE)], ended_at=cancelled.failed_at)
    return True


def _update(job_id: UUID, state: ColumnElement[bool], now: Now) -> Update:
    return (
        update(JOBS)
        .where(JOBS.c.id == job_id, state)
        .values(
            status=JobStatus.FAILED.value,
            error_message=lifecycle.CANCELLED_MESSAGE,
            failed_at=now,
            due_at=None,
            worker_lost=False,
        )
        .returning(JOBS)
    )
