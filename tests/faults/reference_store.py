"""What a job store must answer, told as plainly as possible and decided by ``portico_celery.lifecycle``.

It has a clock of its own, which stands still until it is moved, and takes one job at a time: a store's plural call must
answer as so many single ones.
"""

from __future__ import annotations

from collections.abc import Container
from datetime import datetime, timedelta
from uuid import UUID

from portico_celery import lifecycle
from portico_celery.ports.job import Job, JobStatus, QueueStats
from portico_celery.ports.job_reader import JobFilter, JobRecord
from portico_celery.ports.job_store import (
    DEFAULT_RESULT_TTL,
    Claim,
    ClaimedJob,
    DueWork,
    Finish,
    Knock,
    Lease,
    Postponement,
)
from tests.faults.reference_row import BEGINNING, Row


class ReferenceStore:
    """Jobs in a dict."""

    def __init__(self) -> None:
        self.now = BEGINNING
        self.rows: dict[UUID, Row] = {}

    def after(self, seconds: float) -> datetime:
        return self.now + timedelta(seconds=seconds)

    def insert(self, job: Job, knock_seconds: float) -> tuple[Job, bool]:
        if job.id in self.rows:
            return self.rows[job.id].job, False
        job = lifecycle.enqueued(job, self.now)
        if job.status is JobStatus.SCHEDULED and job.scheduled_at is not None:
            self.rows[job.id] = Row(job, not_before=job.scheduled_at, due_at=job.scheduled_at)
        else:
            self.rows[job.id] = Row(job, not_before=self.now, due_at=self.after(knock_seconds), knocks=1)
        return job, True

    def claim(self, claim: Claim) -> ClaimedJob | None:
        if claim.adopt is not None and claim.job_id not in self.rows:
            job = lifecycle.enqueued(claim.adopt, self.now)
            ahead = job.scheduled_at if job.status is JobStatus.SCHEDULED else None
            self.rows[job.id] = Row(job, not_before=ahead or self.now, due_at=ahead, envelope=claim.envelope)
        row = self.rows.get(claim.job_id)
        if row is None:
            return None
        if lifecycle.may_start(row.job, row.not_before, self.now):
            row.job = lifecycle.started(row.job, self.now)
            row.attempt, row.worker, row.token, row.knocks = row.attempt + 1, claim.worker, claim.token, 0
        elif not row.owes_notice and not (row.runs and row.token == claim.token):
            return None
        row.due_at = self.after(claim.lease_seconds)
        if not row.owes_notice:
            row.unhandled_since = None
        return row.claimed()

    def finish(self, finish: Finish) -> Job | None:
        row, transition = self._held(finish.job_id, finish.attempt), finish.transition
        if row is None:
            return self._finished_before(finish)
        if finish.expired_only and not self._is_due(row):
            return None
        if transition.status is not JobStatus.COMPLETED:
            row.end_badly(self.now, transition.error_message, transition.traceback)
        row.job = lifecycle.finished(row.job, transition, self.now)
        row.result_data, row.worker_lost = transition.result_data, transition.worker_lost
        row.not_before = self.after(transition.delay)
        row.due_at = row.not_before if row.job.status in lifecycle.WAITING or row.owes_notice else None
        return row.job

    def _finished_before(self, finish: Finish) -> Job | None:
        row, transition = self.rows.get(finish.job_id), finish.transition
        if row is None or row.attempt != finish.attempt or finish.expired_only:
            return None
        same = lifecycle.is_finished_so(row.job, transition) and row.result_data == transition.result_data
        return row.job if same else None

    def _held(self, job_id: UUID, attempt: int) -> Row | None:
        row = self.rows.get(job_id)
        return row if row is not None and row.runs and row.attempt == attempt else None

    def _is_due(self, row: Row) -> bool:
        return row.due_at is not None and row.due_at <= self.now

    def postpone(self, postponement: Postponement) -> Job | None:
        row = self.rows.get(postponement.job_id)
        waits = row is not None and lifecycle.may_start(row.job, row.not_before, self.now)
        if row is None or row.job.job_type != postponement.job_type or not (waits or row.owes_notice):
            return None
        row.unhandled_since = row.unhandled_since or self.now
        waited = (self.now - row.unhandled_since).total_seconds()
        if waits:
            job = lifecycle.postponed(row.job, postponement, waited=waited, worker_lost=row.worker_lost, now=self.now)
            row.job, row.knocks = job, 0
            row.due_at = row.not_before = self.after(lifecycle.postponement_delay(waited))
            if row.job.status is JobStatus.DEAD_LETTER:
                row.due_at, row.unhandled_since = self.now if row.worker_lost else None, None
        elif waited >= postponement.patience:
            row.worker_lost, row.due_at, row.unhandled_since = False, None, None
        return row.job

    def settle_loss(self, lease: Lease) -> None:
        row = self.rows.get(lease.job_id)
        if row is not None and row.owes_notice and row.attempt == lease.attempt:
            row.worker_lost, row.due_at = False, None

    def extend(self, lease: Lease, lease_seconds: float) -> bool:
        row = self._held(lease.job_id, lease.attempt)
        if row is not None:
            row.due_at = self.after(lease_seconds)
        return row is not None

    def take_due(self, knock_seconds: float) -> DueWork:
        """Sweep without a limit. What it finds is in the order of the ids."""
        self._forget_what_ended_long_ago()
        due = [self.rows[job_id] for job_id in sorted(self.rows) if self._is_due(self.rows[job_id])]
        knocks = tuple(self._knock(row, knock_seconds) for row in due if not row.runs)
        return DueWork(
            knocks=knocks, expired=tuple(row.claimed() for row in due if row.runs), next_due_in=self.next_due_in()
        )

    def next_due_in(self) -> float | None:
        ahead = [row.due_at for row in self.rows.values() if row.due_at is not None and row.due_at > self.now]
        return (min(ahead) - self.now).total_seconds() if ahead else None

    def _knock(self, row: Row, knock_seconds: float) -> Knock:
        row.due_at = self.after(lifecycle.knock_delay(row.knocks, knock_seconds))
        row.job, row.knocks = lifecycle.due(row.job), row.knocks + 1
        return Knock(job=row.job, envelope=row.envelope, again=row.knocks > 1)

    def _forget_what_ended_long_ago(self) -> None:
        for job_id, row in list(self.rows.items()):
            ended_at = row.job.completed_at or row.job.failed_at
            if row.due_at is None and ended_at is not None and ended_at <= self.after(-DEFAULT_RESULT_TTL):
                del self.rows[job_id]

    def cancel(self, job_id: UUID, *, running: bool) -> bool:
        row = self.rows.get(job_id)
        cancelled = lifecycle.cancelled(row.job, self.now, running=running) if row else None
        if row is None or cancelled is None:
            return False
        if row.runs:
            row.end_badly(self.now, cancelled.error_message)
        row.job, row.due_at, row.worker_lost = cancelled, None, False
        return True

    def meant(self, wanted: JobFilter, states: Container[JobStatus]) -> set[UUID]:
        """Whom a filter means among those in these states; by anything but times."""
        return {
            job.id
            for job in (row.job for row in self.rows.values())
            if job.status in states
            and wanted.queue_name in (None, job.queue_name)
            and wanted.status in (None, job.status)
            and wanted.created_by in (None, job.created_by)
            and (wanted.job_ids is None or job.id in wanted.job_ids)
            and (wanted.error_contains or "") in (job.error_message or "")
        }

    def requeue(self, job_id: UUID, knock_seconds: float) -> Knock | None:
        row = self.rows.get(job_id)
        fresh = lifecycle.requeued(row.job) if row else None
        if row is None or fresh is None:
            return None
        row.job, row.not_before, row.due_at = fresh, self.now, self.after(knock_seconds)
        row.knocks, row.worker_lost, row.result_data, row.unhandled_since = 1, False, None, None
        return Knock(job=fresh, envelope=row.envelope)

    def discard(self, job_id: UUID) -> Job | None:
        row = self.rows.get(job_id)
        if row is None or row.job.status not in lifecycle.TERMINAL:
            return None
        return self.rows.pop(job_id).job

    def holder(self, job_id: UUID) -> ClaimedJob | None:
        row = self.rows.get(job_id)
        return row.claimed() if row is not None and row.runs else None

    def get(self, job_id: UUID) -> JobRecord | None:
        row = self.rows.get(job_id)
        return None if row is None else row.record()

    def count_knocked(self, queue_name: str) -> int:
        rows = [row for row in self.rows.values() if row.job.queue_name == queue_name]
        return sum(lifecycle.awaits_its_message(row.job, row.knocks) for row in rows)

    def stats(self, queue_name: str, *, created_by: UUID | None = None) -> QueueStats:
        jobs = [row.job for row in self.rows.values() if row.job.queue_name == queue_name]
        found = [job.status for job in jobs if created_by in (None, job.created_by)]
        return lifecycle.queue_stats(queue_name, {status: found.count(status) for status in JobStatus})

    def oldest_due_seconds(self) -> float:
        waiting = [row.not_before for row in self.rows.values() if row.job.status in lifecycle.WAITING]
        return max(0.0, (self.now - min(waiting, default=self.now)).total_seconds())
