"""Between the Redis store's hashes and the ports' models. What is None in Python has no field in the hash."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from portico_celery.adapters.job_store.sql_rows import dumped, moment_of, seconds_to_micros, values_of
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import Attempt, JobRecord
from portico_celery.ports.job_store import Claim, ClaimedJob, Finish

Row = Mapping[str, str]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def fields_of(job: Job) -> dict[str, str]:
    """Return the fields of a job that the caller decides; the rest is the store's."""
    return {name: str(value) for name, value in values_of(job).items() if value is not None}


def claim_request(claim: Claim) -> dict[str, Any]:
    """Return what the claim script is asked."""
    request: dict[str, Any] = {
        "id": str(claim.job_id),
        "worker": claim.worker,
        "lease": seconds_to_micros(claim.lease_seconds),
    }
    if claim.adopt is not None:
        envelope = dumped(claim.envelope)
        request["adopt"] = fields_of(claim.adopt) | ({} if envelope is None else {"envelope": envelope})
    return request


def finish_request(finish: Finish) -> dict[str, Any]:
    """Return what the finish script is asked."""
    transition = finish.transition
    optional = {
        "result_data": dumped(transition.result_data),
        "error_message": transition.error_message,
        "traceback": transition.traceback,
    }
    return {
        "id": str(finish.job_id),
        "attempt": finish.attempt,
        "expired_only": finish.expired_only,
        "status": transition.status.value,
        "retry_count": transition.retry_count,
        "delay": seconds_to_micros(transition.delay),
        "worker_lost": transition.worker_lost,
        **{name: value for name, value in optional.items() if value is not None},
    }


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


def claimed_of(row: Row) -> ClaimedJob:
    """Return a row's job with the attempt that holds it."""
    return ClaimedJob(
        job=job_of(row),
        attempt=int(row["attempt"]),
        worker=row.get("worker", ""),
        lost_error=row.get("error_message") if "worker_lost" in row else None,
        envelope=_json(row, "envelope"),
    )


def envelope_of(row: Row) -> dict[str, Any] | None:
    """Return what a plain Celery client's message carried, or None."""
    return _json(row, "envelope")


def record_of(row: Row, history: Sequence[str]) -> JobRecord:
    """Return all that is known of a job, from its row and its attempts that ended badly, in order."""
    attempts = [_ended_attempt(json.loads(attempt)) for attempt in history]
    if row["status"] in (JobStatus.RUNNING, JobStatus.COMPLETED):
        attempts.append(
            Attempt(
                number=int(row["attempt"]),
                worker=row["worker"],
                started_at=_moment(row, "started_at") or _EPOCH,
                ended_at=_moment(row, "completed_at"),
            )
        )
    return JobRecord(job=job_of(row), result_data=_json(row, "result_data"), attempts=tuple(attempts))


def _ended_attempt(attempt: Row) -> Attempt:
    return Attempt(
        number=int(attempt["number"]),
        worker=attempt["worker"],
        started_at=_moment(attempt, "started_at") or _EPOCH,
        ended_at=_moment(attempt, "ended_at"),
        error=attempt.get("error"),
        traceback=attempt.get("traceback"),
    )


def _moment(row: Row, name: str) -> datetime | None:
    return moment_of(int(row[name])) if name in row else None


def _json(row: Row, name: str) -> dict[str, Any] | None:
    return dict(json.loads(row[name])) if name in row else None
