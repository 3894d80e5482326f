"""What becomes of a job apart from its attempts, in memory: it enters, is put back, cancelled, or starts afresh."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from portico_celery import lifecycle
from portico_celery.adapters.job_store.memory.rows import Row, Rows, copied, remember
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_store import Postponement


def insert_job(rows: Rows, job: Job, now: datetime, *, knock_seconds: float) -> tuple[Job, bool]:
    """Store a job whose id is new. The job is the store's own from now on."""
    known = rows.get(job.id)
    if known is not None:
        return copied(known.job), False
    stored = lifecycle.enqueued(job, now)
    if stored.status is JobStatus.SCHEDULED and stored.scheduled_at is not None:
        row = Row(job=stored, not_before=stored.scheduled_at, due_at=stored.scheduled_at)
    else:
        row = Row(job=stored, not_before=now, due_at=now + timedelta(seconds=knock_seconds), knocks=1)
    rows.add(row)
    return copied(stored), True


def postpone_job(rows: Rows, postponement: Postponement, now: datetime) -> Job | None:
    """Put back a job that a worker has no handler for, or give it up."""
    row = rows.get(postponement.job_id)
    if row is None or row.job.job_type != postponement.job_type:
        return None
    waits = lifecycle.may_start(row.job, row.not_before, now)
    if not waits and not lifecycle.owes_loss_notice(row.job, row.worker_lost):
        return None
    since = row.unhandled_since or now
    waited = (now - since).total_seconds()
    given_up = waited >= postponement.patience
    row.unhandled_since = None if given_up else since
    if waits:
        row.job = lifecycle.postponed(row.job, postponement, waited=waited, worker_lost=row.worker_lost, now=now)
        row.knocks = 0
    if waits and not given_up:
        row.due_at = row.not_before = now + timedelta(seconds=lifecycle.postponement_delay(waited))
    elif waits:
        row.due_at = now if row.worker_lost else None
    elif given_up:
        row.worker_lost, row.due_at = False, None
    return copied(row.job)


def cancel_job(rows: Rows, job_id: UUID, now: datetime, *, running: bool) -> bool:
    """Cancel a job that has not started or waits for a retry, or, with ``running``, that runs."""
    row = rows.get(job_id)
    cancelled = None if row is None else lifecycle.cancelled(row.job, now, running=running)
    if row is None or cancelled is None:
        return False
    if row.job.status is JobStatus.RUNNING:
        remember(row, now, cancelled.error_message)
    row.job, row.due_at, row.worker_lost = cancelled, None, False
    return True


def start_afresh(row: Row, now: datetime, *, knock_seconds: float) -> None:
    """Requeue a job that has failed."""
    row.job = lifecycle.requeued(row.job) or row.job
    row.not_before, row.worker_lost, row.knocks = now, False, 1
    row.due_at, row.result_data = now + timedelta(seconds=knock_seconds), None
    row.unhandled_since = None
