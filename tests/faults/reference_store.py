"""What a job store must answer, told as plainly as possible and decided by ``portico_celery.lifecycle``.

It has a clock of its own, which stands still until it is moved, and takes one job at a time: a store's plural call must
answer as so many single ones.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from portico_celery import lifecycle
from portico_celery.ports.job import Job, JobStatus, QueueStats
from portico_celery.ports.job_reader import JobRecord
from portico_celery.ports.job_store import DEFAULT_RESULT_TTL, Claim, ClaimedJob, DueWork, Finish, Knock, Lease
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
            self.rows[job.id] = Row(job, not_before=self.now, due_at=None, envelope=claim.envelope)
        row = self.rows.get(claim.job_id)
        if row is None:
            return None
        if lifecycle.may_start(row.job, row.not_before, self.now):
            row.job = lifecycle.started(row.job, self.now)
            row.attempt, row.worker, row.knocks = row.attempt + 1, claim.worker, 0
        elif not row.owes_notice:
            return None
        row.due_at = self.after(claim.lease_seconds)
        return row.claimed()

    def finish(self, finish: Finish) -> Job | None:
        row, transition = self._held(finish.job_id, finish.attempt), finish.transition
        if row is None or (finish.expired_only and not self._is_due(row)):
            return None
        if transition.status is not JobStatus.COMPLETED:
            row.ended_badly.append(
                replace(
                    row.this_attempt,
                    ended_at=self.now,
                    error=transition.error_message,
                    traceback=transition.traceback,
                )
            )
        row.job = lifecycle.finished(row.job, transition, self.now)
        row.result_data, row.worker_lost = transition.result_data, transition.worker_lost
        row.not_before = self.after(transition.delay)
        row.due_at = row.not_before if row.job.status in lifecycle.WAITING or row.owes_notice else None
        return row.job

    def _held(self, job_id: UUID, attempt: int) -> Row | None:
        row = self.rows.get(job_id)
        return row if row is not None and row.runs and row.attempt == attempt else None

    def _is_due(self, row: Row) -> bool:
        return row.due_at is not None and row.due_at <= self.now

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

    def cancel(self, job_id: UUID) -> bool:
        row = self.rows.get(job_id)
        cancelled = lifecycle.cancelled(row.job, self.now) if row else None
        if row is None or cancelled is None:
            return False
        row.job, row.due_at, row.worker_lost = cancelled, None, False
        return True

    def requeue(self, job_id: UUID, knock_seconds: float) -> Job | None:
        row = self.rows.get(job_id)
        fresh = lifecycle.requeued(row.job) if row else None
        if row is None or fresh is None:
            return None
        row.job, row.not_before, row.due_at = fresh, self.now, self.after(knock_seconds)
        row.knocks, row.worker_lost, row.result_data = 1, False, None
        return fresh

    def discard(self, job_id: UUID) -> bool:
        row = self.rows.get(job_id)
        if row is None or row.job.status not in lifecycle.TERMINAL:
            return False
        del self.rows[job_id]
        return True

    def holder(self, job_id: UUID) -> ClaimedJob | None:
        row = self.rows.get(job_id)
        return row.claimed() if row is not None and row.runs else None

    def get(self, job_id: UUID) -> JobRecord | None:
        row = self.rows.get(job_id)
        return None if row is None else row.record()

    def count_pending(self, queue_name: str) -> int:
        rows = self.rows.values()
        return sum(row.job.queue_name == queue_name and row.job.status is JobStatus.PENDING for row in rows)

    def stats(self, queue_name: str) -> QueueStats:
        found = [row.job.status for row in self.rows.values() if row.job.queue_name == queue_name]
        return lifecycle.queue_stats(queue_name, {status: found.count(status) for status in JobStatus})
