"""What the SQL store reads and never changes."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, func, select

from portico_celery import lifecycle
from portico_celery.adapters.job_store.sql.conditions import RUNNING, WAITING, Now
from portico_celery.adapters.job_store.sql.job_filter import conditions_of, page_of
from portico_celery.adapters.job_store.sql.rows import claimed_of, job_of, record_of
from portico_celery.adapters.job_store.sql_schema import ATTEMPTS, IS_WAITING, JOBS
from portico_celery.ports.job import JobStatus, QueueStats
from portico_celery.ports.job_reader import JobFilter, JobPage, JobRecord
from portico_celery.ports.job_store import ClaimedJob

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


def holder(connection: Connection, job_id: UUID) -> ClaimedJob | None:
    """Return a RUNNING job with the attempt that holds it."""
    row = connection.execute(select(JOBS).where(JOBS.c.id == job_id, RUNNING)).one_or_none()
    return None if row is None else claimed_of(row)


def get(connection: Connection, job_id: UUID) -> JobRecord | None:
    """Return the job with its result and history."""
    rows = connection.execute(_JOB_WITH_HISTORY.where(JOBS.c.id == job_id)).all()
    return record_of(rows) if rows else None


def list_jobs(connection: Connection, job_filter: JobFilter) -> JobPage:
    """Return one page of jobs, the newest first."""
    rows, next_cursor = page_of(connection, job_filter, JOBS.c, conditions_of(connection, job_filter))
    return JobPage(jobs=tuple(job_of(row) for row in rows), next_cursor=next_cursor)


def count_knocked(connection: Connection, queue_name: str) -> int:
    """Count the jobs of a queue that wait and have been knocked for."""
    counted = select(func.count()).where(JOBS.c.queue_name == queue_name, WAITING, JOBS.c.knocks > 0)
    return connection.scalar(counted) or 0


def stats(connection: Connection, queue_name: str, created_by: UUID | None) -> QueueStats:
    """Count the jobs of a queue by state: all of them, or those that one caller has created."""
    counted = select(JOBS.c.status, func.count()).where(JOBS.c.queue_name == queue_name).group_by(JOBS.c.status)
    if created_by is not None:
        counted = counted.where(JOBS.c.created_by == created_by)
    counts = {JobStatus(status): count for status, count in connection.execute(counted)}
    return lifecycle.queue_stats(queue_name, counts)


def oldest_due_seconds(connection: Connection, now: Now) -> float:
    """Return for how many seconds the job that is due longest has waited past its time; 0 where none is due."""
    microseconds = connection.scalar(select(now - func.min(JOBS.c.run_at)).where(IS_WAITING))
    return max(0.0, (microseconds or 0) / 1_000_000)
