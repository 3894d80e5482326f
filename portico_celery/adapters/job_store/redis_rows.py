"""Between the Redis store's hashes and the ports' models. What is None in Python has no field in the hash."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from portico_celery.adapters.job_store.stored_values import EPOCH, moment_of
from portico_celery.lifecycle import enqueued
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import Attempt, JobRecord
from portico_celery.ports.job_store import ClaimedJob, Knock

Row = Mapping[str, str]


def row_of(reply: str) -> Row:
    """Return the row that a script answers; empty where there is none."""
    return dict(json.loads(reply))


def job_of(row: Row) -> Job:
    """Return a row's job."""
    return Job(
        id=UUID(row["id"]),
        queue_name=row["queue_name"],
        job_type=row["job_type"],
        payload=json.loads(row["payload"]),
        priority=int(row["priority"]),
        max_retries=int(row["max_retries"]),
        retry_count=int(row["retry_count"]),
        scheduled_at=_moment(row, "scheduled_at"),
        started_at=_moment(row, "started_at"),
        completed_at=_moment(row, "completed_at"),
        failed_at=_moment(row, "failed_at"),
        status=JobStatus(row["status"]),
        error_message=row.get("error_message"),
        created_by=UUID(row["created_by"]) if "created_by" in row else None,
        created_at=_moment(row, "created_at"),
        metadata=json.loads(row["metadata"]),
    )


def inserted(job: Job, answer: int | str) -> tuple[Job, bool]:
    """Return a job that was sent to be stored, as it is stored, and whether this created it."""
    if isinstance(answer, str):
        return job_of(row_of(answer)), False
    return enqueued(job, moment_of(answer)), True


def claimed_of(row: Row) -> ClaimedJob:
    """Return a row's job with the attempt that holds it."""
    return ClaimedJob(
        job=job_of(row),
        attempt=int(row["attempt"]),
        worker=row.get("worker", ""),
        lost_error=row.get("error_message") if "worker_lost" in row else None,
        envelope=_json(row, "envelope"),
    )


def knock_of(row: Row) -> Knock:
    """Return the knock for a row's job; the row has counted it already."""
    return Knock(job=job_of(row), envelope=_json(row, "envelope"), again=int(row["knocks"]) > 1)


def record_of(row: Row, history: Sequence[str]) -> JobRecord:
    """Return all that is known of a job, from its row and its attempts that ended badly, in order."""
    attempts = [_ended_attempt(json.loads(attempt)) for attempt in history]
    if row["status"] in (JobStatus.RUNNING, JobStatus.COMPLETED):
        attempts.append(
            Attempt(
                number=int(row["attempt"]),
                worker=row["worker"],
                started_at=_moment(row, "started_at") or EPOCH,
                ended_at=_moment(row, "completed_at"),
            )
        )
    result = _json(row, "result_data")
    return JobRecord(job=job_of(row), result_data=result, attempts=tuple(attempts), envelope=_json(row, "envelope"))


def _ended_attempt(attempt: Row) -> Attempt:
    return Attempt(
        number=int(attempt["number"]),
        worker=attempt["worker"],
        started_at=_moment(attempt, "started_at") or EPOCH,
        ended_at=_moment(attempt, "ended_at"),
        error=attempt.get("error"),
        traceback=attempt.get("traceback"),
    )


def _moment(row: Row, name: str) -> datetime | None:
    return moment_of(int(row[name])) if name in row else None


def _json(row: Row, name: str) -> dict[str, Any] | None:
    return dict(json.loads(row[name])) if name in row else None
