"""The memory store's rows, and what of them leaves the store: copies, by way of JSON, as from any other store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import Attempt, JobRecord
from portico_celery.ports.job_store import ClaimedJob, Knock


@dataclass
class Row:
    """All that the store knows of a job. ``due_at`` is when somebody should look at it, ``order`` its place."""

    job: Job
    not_before: datetime
    due_at: datetime | None
    order: int = 0
    attempt: int = 0
    worker: str = ""
    token: str = ""
    knocks: int = 0
    worker_lost: bool = False
    unhandled_since: datetime | None = None
    result_data: dict[str, Any] | None = None
    envelope: dict[str, Any] | None = None
    attempts: list[Attempt] = field(default_factory=list)


class Rows:
    """The rows by their jobs' ids, in the order of their creation."""

    def __init__(self) -> None:
        self._by_id: dict[UUID, Row] = {}
        #: How many have ever been added.
        self.created = 0

    def __iter__(self) -> Iterator[Row]:
        return iter(self._by_id.values())

    def get(self, job_id: UUID) -> Row | None:
        """Return a job's row."""
        return self._by_id.get(job_id)

    def held(self, job_id: UUID, attempt: int) -> Row | None:
        """Return a job's row where this attempt holds it."""
        row = self._by_id.get(job_id)
        if row is None or row.job.status is not JobStatus.RUNNING or row.attempt != attempt:
            return None
        return row

    def add(self, row: Row) -> None:
        """Store a new row."""
        row.order = self.created
        self._by_id[row.job.id] = row
        self.created += 1

    def delete(self, row: Row) -> None:
        """Forget a row."""
        del self._by_id[row.job.id]


def remember(row: Row, now: datetime, error: str | None, traceback: str | None = None) -> None:
    """Add the attempt that holds a job, and ends badly, to its history."""
    row.attempts.append(replace(_running_attempt(row), ended_at=now, error=error, traceback=traceback))


def _running_attempt(row: Row) -> Attempt:
    started = row.job.started_at or row.not_before
    return Attempt(number=row.attempt, worker=row.worker, started_at=started)


def copied(job: Job) -> Job:
    """Return a job that shares nothing with this one which could be changed."""
    return replace(job, payload=json_copy(job.payload) or {}, metadata=json_copy(job.metadata) or {})


def json_copy(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what comes back of a value that is kept as JSON. Raises TypeError for what JSON can't express."""
    return None if value is None else dict(json.loads(json.dumps(dict(value))))


def claimed_of(row: Row) -> ClaimedJob:
    """Return a row's job with the attempt that holds it."""
    return ClaimedJob(
        job=copied(row.job),
        attempt=row.attempt,
        worker=row.worker,
        lost_error=row.job.error_message if row.worker_lost else None,
        envelope=json_copy(row.envelope),
    )


def knock_of(row: Row) -> Knock:
    """Return the knock for a row's job; the row has counted it already."""
    return Knock(job=copied(row.job), envelope=json_copy(row.envelope), again=row.knocks > 1)


def record_of(row: Row) -> JobRecord:
    """Return all that is known of a job."""
    attempts = list(row.attempts)
    if row.job.status in (JobStatus.RUNNING, JobStatus.COMPLETED):
        attempts.append(replace(_running_attempt(row), ended_at=row.job.completed_at))
    return JobRecord(
        job=copied(row.job),
        result_data=json_copy(row.result_data),
        attempts=tuple(attempts),
        envelope=json_copy(row.envelope),
    )
