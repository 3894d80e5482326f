"""Between the SQL store's rows and the ports' models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from portico_celery.adapters.job_store.stored_values import EPOCH, moment_of
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import Attempt, JobRecord
from portico_celery.ports.job_store import ClaimedJob, Knock


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
        scheduled_at=_moment(row.scheduled_at),
        started_at=_moment(row.started_at),
        completed_at=_moment(row.completed_at),
        failed_at=_moment(row.failed_at),
        status=JobStatus(row.status),
        error_message=row.error_message,
        created_by=row.created_by,
        created_at=_moment(row.created_at),
        metadata=json.loads(row.metadata),
    )


def claimed_of(row: Row[Any]) -> ClaimedJob:
    """Return a row's job with the attempt that holds it."""
    return ClaimedJob(
        job=job_of(row),
        attempt=row.attempt,
        worker=row.worker,
        lost_error=row.error_message if row.worker_lost else None,
        envelope=_json(row.envelope),
    )


def knock_of(row: Row[Any]) -> Knock:
    """Return the knock for a row's job; the row has counted it already."""
    return Knock(job=job_of(row), envelope=_json(row.envelope), again=row.knocks > 1)


def record_of(rows: Sequence[Row[Any]]) -> JobRecord:
    """Return all that is known of a job, from its row joined with each attempt that ended badly, in order."""
    row = rows[0]
    attempts = [_ended_attempt(joined) for joined in rows if joined.number is not None]
    if row.status in (JobStatus.RUNNING, JobStatus.COMPLETED):
        attempts.append(
            Attempt(
                number=row.attempt,
                worker=row.worker,
                started_at=_moment(row.started_at) or EPOCH,
                ended_at=_moment(row.completed_at),
            )
        )
    return JobRecord(
        job=job_of(row),
        result_data=_json(row.result_data),
        attempts=tuple(attempts),
        envelope=_json(row.envelope),
    )


def _ended_attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        number=row.number,
        worker=row.ended_worker,
        started_at=_moment(row.ended_started_at) or EPOCH,
        ended_at=_moment(row.ended_at),
        error=row.error,
        traceback=row.traceback,
    )


def _moment(value: int | None) -> datetime | None:
    return None if value is None else moment_of(value)


def _json(text: str | None) -> dict[str, Any] | None:
    return None if text is None else dict(json.loads(text))
