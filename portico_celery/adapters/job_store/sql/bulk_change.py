"""Changing jobs by filter in SQL, one page in a step: starting failed ones afresh, and deleting those that have ended.

They are looked for without a lock, by the conditions that a second statement then holds them to once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, Select, Update, delete, select, update

from portico_celery.adapters.job_store.sql.conditions import TERMINAL, Clock, Now
from portico_celery.adapters.job_store.sql.job_filter import conditions_of, page_of
from portico_celery.adapters.job_store.sql.rows import job_of, knock_of
from portico_celery.adapters.job_store.sql_schema import ATTEMPTS, HAS_FAILED, JOBS
from portico_celery.adapters.job_store.stored_values import seconds_to_micros
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import JobFilter
from portico_celery.ports.job_store import Requeued


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """One page of jobs that met the conditions when somebody looked, and where the next page begins."""

    job_ids: Sequence[UUID]
    conditions: Sequence[ColumnElement[bool]]
    next_cursor: str | None


def requeue_jobs(connection: Connection, job_filter: JobFilter, clock: Clock, *, knock_seconds: float) -> Requeued:
    """Start jobs afresh: one statement looks for them, another takes what is still so."""
    found = _candidates(connection, job_filter, HAS_FAILED)
    rows = connection.execute(_start_afresh(found, clock(), knock_seconds)).all() if found.job_ids else []
    return Requeued(knocks=tuple(knock_of(row) for row in _in_order(found, rows)), next_cursor=found.next_cursor)


def _start_afresh(found: Candidates, now: Now, knock_seconds: float) -> Update:
    return (
        update(JOBS)
        .where(JOBS.c.id.in_(_still_wanted(found)))
        .values(
            status=JobStatus.PENDING.value,
            retry_count=0,
            scheduled_at=None,
            started_at=None,
            failed_at=None,
            error_message=None,
            result_data=None,
            worker_lost=False,
            knocks=1,
            run_at=now,
            due_at=now + seconds_to_micros(knock_seconds),
            unhandled_since=None,
        )
        .returning(JOBS)
    )


def find_discardable(connection: Connection, job_filter: JobFilter) -> Candidates:
    """Look for jobs to delete, in one statement."""
    return _candidates(connection, job_filter, TERMINAL)


def delete_jobs(connection: Connection, found: Candidates) -> tuple[Job, ...]:
    """Delete those that are still so, with their history, in the transaction of the connection: as they were."""
    ended = connection.scalars(_still_wanted(found)).all()
    connection.execute(delete(ATTEMPTS).where(ATTEMPTS.c.job_id.in_(ended)))
    rows = connection.execute(delete(JOBS).where(JOBS.c.id.in_(ended)).returning(JOBS)).all()
    return tuple(job_of(row) for row in _in_order(found, rows))


def _candidates(connection: Connection, job_filter: JobFilter, state: ColumnElement[bool]) -> Candidates:
    conditions = [*conditions_of(connection, job_filter), state]
    rows, next_cursor = page_of(connection, job_filter, (JOBS.c.id, JOBS.c.created_at), conditions)
    return Candidates(job_ids=[row.id for row in rows], conditions=conditions, next_cursor=next_cursor)


def _still_wanted(found: Candidates) -> Select[Any]:
    # In the order of a batch, so that two processes can't wait for each other's rows.
    wanted = select(JOBS.c.id).where(JOBS.c.id.in_(found.job_ids), *found.conditions)
    return wanted.order_by(JOBS.c.id).with_for_update()


def _in_order(found: Candidates, rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    by_id = {row.id: row for row in rows}
    return [by_id[job_id] for job_id in found.job_ids if job_id in by_id]
