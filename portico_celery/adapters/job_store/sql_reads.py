"""What the SQL store reads and never changes."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ColumnElement, Connection, func, select, tuple_

from portico_celery import lifecycle
from portico_celery.adapters.job_store.sql_rows import job_of, micros, record_of
from portico_celery.adapters.job_store.sql_schema import ATTEMPTS, JOBS
from portico_celery.exceptions import ValidationError
from portico_celery.ports.job import Job, JobStatus, QueueStats
from portico_celery.ports.job_reader import JobFilter, JobPage, JobRecord

# What a BigInteger column holds.
_LARGEST_TIME = 2**63 - 1

# One statement, so that the row and its history are of one moment.
_JOB_WITH_HISTORY = (
    select(
        JOBS,
        ATTEMPTS.c.number,
        ATTEMPTS.c.worker.label("ended_worker"),
        ATTEMPTS.c.started_at.label("ended_started_at"),
        ATTEMPTS.c.ended_at,
        ATTEMPTS.c.error,
        ATTEMPTS.c.traceback,
    )
    .outerjoin(ATTEMPTS, ATTEMPTS.c.job_id == JOBS.c.id)
    .order_by(ATTEMPTS.c.number)
)


def get(connection: Connection, job_id: UUID) -> JobRecord | None:
    """Return the job with its result and history."""
    rows = connection.execute(_JOB_WITH_HISTORY.where(JOBS.c.id == job_id)).all()
    return record_of(rows) if rows else None


def list_jobs(connection: Connection, job_filter: JobFilter) -> JobPage:
    """Return one page of jobs, the newest first."""
    statement = (
        select(JOBS)
        .where(*_conditions(job_filter))
        .order_by(JOBS.c.created_at.desc(), JOBS.c.id.desc())
        .limit(job_filter.limit + 1)
    )
    jobs = [job_of(row) for row in connection.execute(statement)]
    page, more = jobs[: job_filter.limit], len(jobs) > job_filter.limit
    return JobPage(jobs=tuple(page), next_cursor=_cursor(page[-1]) if more else None)


def _conditions(job_filter: JobFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if job_filter.queue_name is not None:
        conditions.append(JOBS.c.queue_name == job_filter.queue_name)
    if job_filter.job_type is not None:
        conditions.append(JOBS.c.job_type == job_filter.job_type)
    if job_filter.status is not None:
        conditions.append(JOBS.c.status == job_filter.status.value)
    if job_filter.cursor is not None:
        created_at, job_id = _position(job_filter.cursor)
        conditions.append(tuple_(JOBS.c.created_at, JOBS.c.id) < tuple_(created_at, job_id))
    return conditions


def _cursor(job: Job) -> str:
    return f"{micros(job.created_at) if job.created_at else 0}-{job.id.hex}"


def _position(cursor: str) -> tuple[int, UUID]:
    created_at, _, job_id = cursor.partition("-")
    try:
        position = int(created_at), UUID(job_id)
    except ValueError:
        position = None
    if position is None or position[0] > _LARGEST_TIME:
        raise ValidationError("cursor is not one that an earlier page returned as next_cursor")
    return position


def count_pending(connection: Connection, queue_name: str) -> int:
    """Count the PENDING jobs of a queue."""
    pending = JOBS.c.status == JobStatus.PENDING.value
    counted = select(func.count()).where(JOBS.c.queue_name == queue_name, pending)
    return connection.scalar(counted) or 0


def stats(connection: Connection, queue_name: str) -> QueueStats:
    """Count the jobs of a queue by state."""
    counted = select(JOBS.c.status, func.count()).where(JOBS.c.queue_name == queue_name).group_by(JOBS.c.status)
    counts = {JobStatus(status): count for status, count in connection.execute(counted)}
    return lifecycle.queue_stats(queue_name, counts)
