"""Between the SQL store's rows and the ports' models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row

from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import Attempt, JobRecord
from portico_celery.ports.job_store import ClaimedJob

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """Return microseconds since the epoch, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def seconds_to_micros(seconds: float) -> int:
    """Return a duration in whole microseconds."""
    return round(seconds * 1_000_000)


def moment_of(value: int | None) -> datetime | None:
    """Return the moment, aware and in UTC, or None."""
    return None if value is None else _EPOCH + timedelta(microseconds=value)


def dumped(value: Mapping[str, Any] | None) -> str | None:
    """Return JSON text, or None."""
    return None if value is None else json.dumps(dict(value), separators=(",", ":"))


def values_of(job: Job) -> dict[str, Any]:
    """Return the columns of a job that the caller decides; the rest is the store's."""
    return {
        "id": job.id,
        "queue_name": job.queue_name,
        "job_type": job.job_type,
        "payload": dumped(job.payload),
        "priority": job.priority,
        "max_retries": job.max_retries,
        "retry_count": job.retry_count,
        "created_by": job.created_by,
        "metadata": dumped(job.metadata),
        "scheduled_at": None if job.scheduled_at is None else micros(job.scheduled_at),
    }


def job_of(row: Row[Any]) -> Job:
    """Return a row's job."""
    return Job(
        id=row.id,
        queue_name=row.queue_name,
        job_type=row.job_type,
        payload=json.loads(row.payload),
        priority=row.priority,
        max_retries=row.max_retries,
        retry_count=row.retry_count,
        scheduled_at=moment_of(row.scheduled_at),
        started_at=moment_of(row.started_at),
        completed_at=moment_of(row.completed_at),
        failed_at=moment_of(row.failed_at),
        status=JobStatus(row.status),
        error_message=row.error_message,
        created_by=row.created_by,
        created_at=moment_of(row.created_at),
        metadata=json.loads(row.metadata),
    )


def claimed_of(row: Row[Any]) -> ClaimedJob:
    """Return a row's job with the attempt that holds it."""
    return ClaimedJob(
        job=job_of(row),
        attempt=row.attempt,
        worker=row.worker,
        lost_error=row.error_message if row.worker_lost else None,
        envelope=envelope_of(row),
    )


def envelope_of(row: Row[Any]) -> dict[str, Any] | None:
    """Return what a plain Celery client's message carried, or None."""
    return None if row.envelope is None else dict(json.loads(row.envelope))


def record_of(rows: Sequence[Row[Any]]) -> JobRecord:
    """Return all that is known of a job, from its row joined with each attempt that ended badly, in order."""
    row = rows[0]
    attempts = [_ended_attempt(joined) for joined in rows if joined.number is not None]
    if row.status in (JobStatus.RUNNING, JobStatus.COMPLETED):
        attempts.append(
            Attempt(
                number=row.attempt,
                worker=row.worker,
                started_at=moment_of(row.started_at) or _EPOCH,
                ended_at=moment_of(row.completed_at),
            )
        )
    result = None if row.result_data is None else dict(json.loads(row.result_data))
    return JobRecord(job=job_of(row), result_data=result, attempts=tuple(attempts))


def _ended_attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        number=row.number,
        worker=row.ended_worker,
        started_at=moment_of(row.ended_started_at) or _EPOCH,
        ended_at=moment_of(row.ended_at),
        error=row.error,
        traceback=row.traceback,
    )
