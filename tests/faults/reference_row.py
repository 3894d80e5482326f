"""A job as the reference keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from portico_celery import lifecycle
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import Attempt, JobRecord
from portico_celery.ports.job_store import ClaimedJob

BEGINNING = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass
class Row:
    """A job, and what its store knows beside it."""

    job: Job
    not_before: datetime
    due_at: datetime | None
    attempt: int = 0
    worker: str = ""
    token: str = ""
    knocks: int = 0
    worker_lost: bool = False
    unhandled_since: datetime | None = None
    result_data: Mapping[str, Any] | None = None
    envelope: Mapping[str, Any] | None = None
    ended_badly: list[Attempt] = field(default_factory=list)

    @property
    def runs(self) -> bool:
        return self.job.status is JobStatus.RUNNING

    @property
    def owes_notice(self) -> bool:
        return lifecycle.owes_loss_notice(self.job, self.worker_lost)

    @property
    def this_attempt(self) -> Attempt:
        started_at = self.job.started_at or BEGINNING
        return Attempt(number=self.attempt, worker=self.worker, started_at=started_at, ended_at=self.job.completed_at)

    def end_badly(self, now: datetime, error: str | None, traceback: str | None = None) -> None:
        self.ended_badly.append(replace(self.this_attempt, ended_at=now, error=error, traceback=traceback))

    def claimed(self) -> ClaimedJob:
        lost_error = self.job.error_message if self.worker_lost else None
        return ClaimedJob(
            job=self.job, attempt=self.attempt, worker=self.worker, lost_error=lost_error, envelope=self.envelope
        )

    def record(self) -> JobRecord:
        shown = [self.this_attempt] if self.job.status in (JobStatus.RUNNING, JobStatus.COMPLETED) else []
        result_data = None if self.result_data is None else dict(self.result_data)
        envelope = None if self.envelope is None else dict(self.envelope)
        attempts = (*self.ended_badly, *shown)
        return JobRecord(job=self.job, result_data=result_data, attempts=attempts, envelope=envelope)
