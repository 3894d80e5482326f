"""Storing jobs in SQL whose ids are new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Connection, bindparam, case, select
from sqlalchemy.dialects import postgresql, sqlite

from portico_celery.adapters.job_store.sql.conditions import Now
from portico_celery.adapters.job_store.sql.rows import job_of
from portico_celery.adapters.job_store.sql_schema import JOBS
from portico_celery.adapters.job_store.stored_values import seconds_to_micros, values_of
from portico_celery.ports.job import Job, JobStatus


def insert_jobs(
    connection: Connection, jobs: Sequence[Job], now: Now, *, knock_seconds: float
) -> list[tuple[Job, bool]]:
    """Store the jobs whose ids are new, in one statement; those that are known are read with another."""
    statement = _insert(connection.dialect.name, now, knock_seconds)
    # In the order of a batch, so that two processes can't wait for each other's rows.
    parameters = [_new_row(job) for job in sorted(jobs, key=lambda job: str(job.id))]
    created = {row.id: job_of(row) for row in connection.execute(statement, parameters).all()}
    stored = {**created, **_stored(connection, [job.id for job in jobs if job.id not in created])}
    # An id that stands twice among the jobs is created by the first of them.
    return [(stored[job.id], created.pop(job.id, None) is not None) for job in jobs]


def insert_ignoring_known(dialect: str) -> Any:
    """Return an INSERT into the jobs that passes over ids that exist, and returns the rows it made."""
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return insert(JOBS).on_conflict_do_nothing(index_elements=[JOBS.c.id]).returning(JOBS)


def _insert(dialect: str, now: Now, knock_seconds: float) -> Any:
    # A second name for scheduled_at: a VALUES expression can't refer to its own row's columns.
    start_at = bindparam("start_at", type_=BigInteger)
    ahead = start_at > now
    return insert_ignoring_known(dialect).values(
        status=case((ahead, JobStatus.SCHEDULED.value), else_=JobStatus.PENDING.value),
        run_at=case((ahead, start_at), else_=now),
        due_at=case((ahead, start_at), else_=now + seconds_to_micros(knock_seconds)),
        knocks=case((ahead, 0), else_=1),
        created_at=now,
    )


def _new_row(job: Job) -> dict[str, Any]:
    row = values_of(job)
    return {**row, "start_at": row["scheduled_at"], "attempt": 0, "worker": "", "token": "", "worker_lost": False}


def _stored(connection: Connection, job_ids: Sequence[UUID]) -> dict[UUID, Job]:
    if not job_ids:
        return {}
    rows = connection.execute(select(JOBS).where(JOBS.c.id.in_(job_ids))).all()
    return {row.id: job_of(row) for row in rows}
