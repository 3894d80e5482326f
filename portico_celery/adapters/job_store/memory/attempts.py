"""From a job's being taken to its attempt's end, in memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from portico_celery import lifecycle
from portico_celery.adapters.job_store.memory.rows import Row, Rows, claimed_of, copied, json_copy, remember
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_store import Claim, ClaimedJob, Finish, Lease


def copied_claim(claim: Claim) -> Claim:
    """Return a claim that shares nothing with this one which could be changed."""
    if claim.adopt is None:
        return claim
    return replace(claim, adopt=copied(claim.adopt), envelope=json_copy(claim.envelope))


def claim_job(rows: Rows, claim: Claim, now: datetime) -> ClaimedJob | None:
    """Take a job that may start now, or that this very claim has taken; one to adopt is stored first."""
    row = rows.get(claim.job_id) or _adopt(rows, claim, now)
    if row is None:
        return None
    if lifecycle.may_start(row.job, row.not_before, now):
        _start(row, claim, now)
    elif not lifecycle.owes_loss_notice(row.job, row.worker_lost) and not _is_repeated(row, claim):
        return None
    row.due_at = now + timedelta(seconds=claim.lease_seconds)
    return claimed_of(row)


def _adopt(rows: Rows, claim: Claim, now: datetime) -> Row | None:
    if claim.adopt is None:
        return None
    envelope = None if claim.envelope is None else dict(claim.envelope)
    adopted = lifecycle.enqueued(claim.adopt, now)
    start_at = now
    if adopted.status is JobStatus.SCHEDULED and adopted.scheduled_at is not None:
        start_at = adopted.scheduled_at
    row = Row(job=adopted, not_before=start_at, due_at=start_at, envelope=envelope)
    rows.add(row)
    return row


def _start(row: Row, claim: Claim, now: datetime) -> None:
    row.job = lifecycle.started(row.job, now)
    row.attempt += 1
    row.worker = claim.worker
    row.token = claim.token
    row.knocks = 0
    row.unhandled_since = None


def _is_repeated(row: Row, claim: Claim) -> bool:
    return row.job.status is JobStatus.RUNNING and row.token == claim.token


def finish_attempt(rows: Rows, finish: Finish, result_data: dict[str, Any] | None, now: datetime) -> Job | None:
    """End an attempt that holds its job, or has ended so before; ``result_data`` is a copy of the finish's own."""
    row = rows.held(finish.job_id, finish.attempt)
    if row is None:
        return _finished_before(rows, finish, result_data)
    if finish.expired_only and (row.due_at is None or row.due_at > now):
        return None
    transition = finish.transition
    if transition.status is not JobStatus.COMPLETED:
        remember(row, now, transition.error_message, transition.traceback)
    row.job = lifecycle.finished(row.job, transition, now)
    row.not_before = now + timedelta(seconds=transition.delay)
    row.worker_lost = transition.worker_lost
    row.result_data = result_data
    waits = row.job.status in lifecycle.WAITING
    row.due_at = row.not_before if waits or lifecycle.owes_loss_notice(row.job, row.worker_lost) else None
    return copied(row.job)


def _finished_before(rows: Rows, finish: Finish, result_data: dict[str, Any] | None) -> Job | None:
    row = rows.get(finish.job_id)
    if row is None or row.attempt != finish.attempt or finish.expired_only:
        return None
    same = lifecycle.is_finished_so(row.job, finish.transition) and row.result_data == result_data
    return copied(row.job) if same else None


def extend_lease(rows: Rows, lease: Lease, until: datetime) -> bool:
    """Renew a lease that holds its job."""
    row = rows.held(lease.job_id, lease.attempt)
    if row is not None:
        row.due_at = until
    return row is not None


def settle_loss(rows: Rows, lease: Lease) -> None:
    """Note that the handler of a dead letter has heard of the loss."""
    row = rows.get(lease.job_id)
    if row is not None and row.attempt == lease.attempt and row.job.status is JobStatus.DEAD_LETTER:
        row.worker_lost = False
        row.due_at = None
