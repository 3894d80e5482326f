"""A job store in this process's memory, for tests and trials: nothing survives the process.

It serialises as the others do, so that what works here works there.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from portico_celery import lifecycle
from portico_celery.exceptions import ValidationError
from portico_celery.ports.job import Job, JobStatus, QueueStats
from portico_celery.ports.job_reader import Attempt, JobFilter, JobPage, JobRecord
from portico_celery.ports.job_store import (
    DEFAULT_RESULT_TTL,
    Claim,
    ClaimedJob,
    DueWork,
    Finish,
    JobStore,
    Knock,
    Lease,
)


@dataclass
class _Row:
    job: Job
    not_before: datetime
    due_at: datetime | None
    order: int
    attempt: int = 0
    worker: str = ""
    knocks: int = 0
    worker_lost: bool = False
    result_data: dict[str, Any] | None = None
    envelope: dict[str, Any] | None = None
    attempts: list[Attempt] = field(default_factory=list)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class MemoryJobStore(JobStore):
    """Keeps jobs in a dict under one lock. ``now`` is the store's clock."""

    def __init__(self, *, now: Callable[[], datetime] = _utc_now, result_ttl: float = DEFAULT_RESULT_TTL) -> None:
        self._result_ttl = timedelta(seconds=result_ttl)
        self._now = now
        self._lock = threading.RLock()
        self._rows: dict[UUID, _Row] = {}
        self._created = 0

    def initialize(self) -> None:
        """There is nothing to create."""

    def close(self) -> None:
        """There is nothing to release; the jobs stay."""

    def insert(self, jobs: Sequence[Job], *, knock_seconds: float) -> list[tuple[Job, bool]]:
        """Store all jobs whose id is new."""
        with self._lock:
            copies = [_copied(job) for job in jobs]  # all before the first is stored: all or none
            return [self._insert(job, knock_seconds) for job in copies]

    def _insert(self, job: Job, knock_seconds: float) -> tuple[Job, bool]:
        if job.id in self._rows:
            return _copied(self._rows[job.id].job), False
        now = self._now()
        stored = lifecycle.enqueued(job, now)
        scheduled = stored.status is JobStatus.SCHEDULED and stored.scheduled_at is not None
        not_before = stored.scheduled_at if scheduled and stored.scheduled_at else now
        self._add(
            _Row(
                job=stored,
                not_before=not_before,
                due_at=not_before if scheduled else now + timedelta(seconds=knock_seconds),
                order=self._created,
                knocks=0 if scheduled else 1,
            )
        )
        return _copied(stored), True

    def _add(self, row: _Row) -> None:
        self._rows[row.job.id] = row
        self._created += 1

    def claim(self, claims: Sequence[Claim]) -> list[ClaimedJob | None]:
        """Take each job that may start now."""
        with self._lock:
            return [self._claim(claim) for claim in [_copied_claim(claim) for claim in claims]]

    def _claim(self, claim: Claim) -> ClaimedJob | None:
        now = self._now()
        row = self._rows.get(claim.job_id)
        if row is None and claim.adopt is not None:
            row = _Row(
                job=lifecycle.enqueued(claim.adopt, now),
                not_before=now,
                due_at=now,
                order=self._created,
                envelope=None if claim.envelope is None else dict(claim.envelope),
            )
            self._add(row)
        if row is None:
            return None
        if lifecycle.may_start(row.job, row.not_before, now):
            row.job = lifecycle.started(row.job, now)
            row.attempt += 1
            row.worker = claim.worker
            row.knocks = 0
        elif not lifecycle.owes_loss_notice(row.job, row.worker_lost):
            return None
        row.due_at = now + timedelta(seconds=claim.lease_seconds)
        return _claimed(row)

    def finish(self, finishes: Sequence[Finish]) -> list[Job | None]:
        """End attempts."""
        with self._lock:
            results = [_json_copy(finish.transition.result_data) for finish in finishes]
            return [self._finish(finish, data) for finish, data in zip(finishes, results, strict=True)]

    def _finish(self, finish: Finish, result_data: dict[str, Any] | None) -> Job | None:
        now = self._now()
        row = self._held(finish.job_id, finish.attempt)
        if row is None or (finish.expired_only and (row.due_at is None or row.due_at > now)):
            return None
        transition = finish.transition
        if transition.status is not JobStatus.COMPLETED:
            row.attempts.append(
                replace(
                    _running_attempt(row),
                    ended_at=now,
                    error=transition.error_message,
                    traceback=transition.traceback,
                )
            )
        row.job = lifecycle.finished(row.job, transition, now)
        row.not_before = now + timedelta(seconds=transition.delay)
        row.worker_lost = transition.worker_lost
        row.result_data = result_data
        waits = row.job.status in lifecycle.WAITING
        owes = lifecycle.owes_loss_notice(row.job, row.worker_lost)
        row.due_at = row.not_before if waits or owes else None
        return _copied(row.job)

    def _held(self, job_id: UUID, attempt: int) -> _Row | None:
        row = self._rows.get(job_id)
        if row is None or row.job.status is not JobStatus.RUNNING or row.attempt != attempt:
            return None
        return row

    def settle_loss(self, lease: Lease) -> None:
        """Note that the handler has heard of the loss."""
        with self._lock:
            row = self._rows.get(lease.job_id)
            if row is not None and row.attempt == lease.attempt and row.job.status is JobStatus.DEAD_LETTER:
                row.worker_lost = False
                row.due_at = None

    def extend(self, leases: Sequence[Lease], *, lease_seconds: float) -> list[bool]:
        """Renew leases."""
        with self._lock:
            until = self._now() + timedelta(seconds=lease_seconds)
            rows = [self._held(lease.job_id, lease.attempt) for lease in leases]
            for row in rows:
                if row is not None:
                    row.due_at = until
            return [row is not None for row in rows]

    def take_due(self, *, limit: int, knock_seconds: float) -> DueWork:
        """Find what is due, and move the due time of the rows to knock for."""
        with self._lock:
            now = self._now()
            self._clear_away(now)
            ripe = [(row.due_at, row) for row in self._rows.values() if row.due_at is not None and row.due_at <= now]
            ripe.sort(key=lambda pair: pair[0])
            # Limited each by itself: expired leases stay as they are, and must not crowd out the knocks.
            expired = [row for _, row in ripe if row.job.status is JobStatus.RUNNING][:limit]
            knocked = [row for _, row in ripe if row.job.status is not JobStatus.RUNNING][:limit]
            for row in knocked:
                row.due_at = now + timedelta(seconds=lifecycle.knock_delay(row.knocks, knock_seconds))
                row.job = lifecycle.due(row.job)
                row.knocks += 1
            due_times = [row.due_at for row in self._rows.values() if row.due_at is not None]
            ahead = [(due_at - now).total_seconds() for due_at in due_times if due_at > now]
            busy = limit in (len(expired), len(knocked))
            return DueWork(
                knocks=tuple(
                    Knock(job=_copied(row.job), envelope=_json_copy(row.envelope), again=row.knocks > 1)
                    for row in knocked
                ),
                expired=tuple(_claimed(row) for row in expired),
                next_due_in=0.0 if busy else min(ahead, default=None),
            )

    def _clear_away(self, now: datetime) -> None:
        ended = [(row.job.completed_at or row.job.failed_at, row) for row in self._rows.values() if row.due_at is None]
        for ended_at, row in ended:
            if ended_at is not None and ended_at < now - self._result_ttl:
                del self._rows[row.job.id]

    def count_pending(self, queue_name: str) -> int:
        """Count the PENDING jobs of a queue."""
        with self._lock:
            return sum(
                row.job.queue_name == queue_name and row.job.status is JobStatus.PENDING for row in self._rows.values()
            )

    def cancel(self, job_id: UUID) -> bool:
        """Cancel a job that has not started or waits for a retry."""
        with self._lock:
            row = self._rows.get(job_id)
            cancelled = None if row is None else lifecycle.cancelled(row.job, self._now())
            if row is None or cancelled is None:
                return False
            row.job, row.due_at, row.worker_lost = cancelled, None, False
            return True

    def requeue(self, job_id: UUID, *, knock_seconds: float) -> Job | None:
        """Start a FAILED or DEAD_LETTER job afresh."""
        with self._lock:
            row = self._rows.get(job_id)
            fresh = None if row is None else lifecycle.requeued(row.job)
            if row is None or fresh is None:
                return None
            now = self._now()
            row.job, row.not_before, row.worker_lost, row.knocks = fresh, now, False, 1
            row.due_at, row.result_data = now + timedelta(seconds=knock_seconds), None
            return _copied(row.job)

    def discard(self, job_id: UUID) -> bool:
        """Delete a job that has ended."""
        with self._lock:
            row = self._rows.get(job_id)
            if row is None or row.job.status not in lifecycle.TERMINAL:
                return False
            del self._rows[job_id]
            return True

    def holder(self, job_id: UUID) -> ClaimedJob | None:
        """Return a RUNNING job with the attempt that holds it."""
        with self._lock:
            row = self._rows.get(job_id)
            return None if row is None or row.job.status is not JobStatus.RUNNING else _claimed(row)

    def get(self, job_id: UUID) -> JobRecord | None:
        """Return the job with its result and history."""
        with self._lock:
            row = self._rows.get(job_id)
            return None if row is None else _record(row)

    def list_jobs(self, job_filter: JobFilter) -> JobPage:
        """Return one page of jobs, the newest first."""
        with self._lock:
            before = self._created if job_filter.cursor is None else _position(job_filter.cursor)
            rows = sorted(
                (row for row in self._rows.values() if row.order < before and _matches(row.job, job_filter)),
                key=lambda row: -row.order,
            )
        page, more = rows[: job_filter.limit], len(rows) > job_filter.limit
        return JobPage(jobs=tuple(_copied(row.job) for row in page), next_cursor=str(page[-1].order) if more else None)

    def stats(self, queue_name: str) -> QueueStats:
        """Count the jobs of a queue by state."""
        with self._lock:
            found = [row.job.status for row in self._rows.values() if row.job.queue_name == queue_name]
        return lifecycle.queue_stats(queue_name, {status: found.count(status) for status in JobStatus})


def _position(cursor: str) -> int:
    try:
        return int(cursor)
    except ValueError:
        raise ValidationError("cursor is not one that an earlier page returned as next_cursor") from None


def _matches(job: Job, wanted: JobFilter) -> bool:
    return (
        wanted.queue_name in (None, job.queue_name)
        and wanted.job_type in (None, job.job_type)
        and wanted.status in (None, job.status)
    )


def _copied(job: Job) -> Job:
    return replace(job, payload=_json_copy(job.payload) or {}, metadata=_json_copy(job.metadata) or {})


def _copied_claim(claim: Claim) -> Claim:
    if claim.adopt is None:
        return claim
    return replace(claim, adopt=_copied(claim.adopt), envelope=_json_copy(claim.envelope))


def _json_copy(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if value is None else dict(json.loads(json.dumps(dict(value))))


def _claimed(row: _Row) -> ClaimedJob:
    return ClaimedJob(
        job=_copied(row.job),
        attempt=row.attempt,
        worker=row.worker,
        lost_error=row.job.error_message if row.worker_lost else None,
        envelope=_json_copy(row.envelope),
    )


def _running_attempt(row: _Row) -> Attempt:
    started = row.job.started_at or row.not_before
    return Attempt(number=row.attempt, worker=row.worker, started_at=started)


def _record(row: _Row) -> JobRecord:
    attempts = list(row.attempts)
    if row.job.status in (JobStatus.RUNNING, JobStatus.COMPLETED):
        attempts.append(replace(_running_attempt(row), ended_at=row.job.completed_at))
    return JobRecord(job=_copied(row.job), result_data=_json_copy(row.result_data), attempts=tuple(attempts))
