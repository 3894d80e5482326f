"""The steps of a job's life: each takes a job and gives the next one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from portico_celery.lifecycle.error_text import CANCELLED_MESSAGE, NO_HANDLER, no_handler_message, unknown_type_message
from portico_celery.ports.job import Job, JobStatus, QueueStats
from portico_celery.ports.job_store import Postponement, Transition

WAITING = frozenset({JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.RETRYING})
TERMINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.DEAD_LETTER})
REQUEUABLE = frozenset({JobStatus.FAILED, JobStatus.DEAD_LETTER})
CANCELLABLE_RUNNING = WAITING | {JobStatus.RUNNING}


def enqueued(job: Job, now: datetime) -> Job:
    """A new job enters: SCHEDULED where its time is ahead, else PENDING. Nothing has happened to it yet."""
    ahead = job.scheduled_at is not None and job.scheduled_at > now
    return replace(
        job,
        status=JobStatus.SCHEDULED if ahead else JobStatus.PENDING,
        created_at=now,
        started_at=None,
        completed_at=None,
        failed_at=None,
        error_message=None,
    )


def awaits_its_message(job: Job, knocks: int) -> bool:
    """Whether a message for the job should be under way: it waits, and has been knocked for."""
    return job.status in WAITING and knocks > 0


def due(job: Job) -> Job:
    """The time of a scheduled job has come. A job in another state stays as it is."""
    return replace(job, status=JobStatus.PENDING) if job.status is JobStatus.SCHEDULED else job


def may_start(job: Job, not_before: datetime, now: datetime) -> bool:
    """Whether a worker may take the job: it waits, and its time or its backoff has passed."""
    return job.status in WAITING and not_before <= now


def started(job: Job, now: datetime) -> Job:
    """A worker took the job."""
    return replace(job, status=JobStatus.RUNNING, started_at=now)


def finished(job: Job, transition: Transition, now: datetime) -> Job:
    """An attempt ended as decided. The last error stays readable after a later success."""
    completed = transition.status is JobStatus.COMPLETED
    ended_badly = transition.status in REQUEUABLE
    return replace(
        job,
        status=transition.status,
        retry_count=transition.retry_count,
        error_message=job.error_message if completed else transition.error_message,
        completed_at=now if completed else job.completed_at,
        failed_at=now if ended_badly else job.failed_at,
    )


def is_finished_so(job: Job, transition: Transition) -> bool:
    """Whether the job stands where this very transition has led it, so that deciding it again changes nothing."""
    completed = transition.status is JobStatus.COMPLETED
    return (
        job.status is transition.status
        and job.retry_count == transition.retry_count
        and (completed or job.error_message == transition.error_message)
    )


def postponed(job: Job, postponement: Postponement, *, waited: float, worker_lost: bool, now: datetime) -> Job:
    """A job that may start met a worker without its handler, as all have been for ``waited`` seconds."""
    given_up = waited >= postponement.patience
    if given_up:
        message = unknown_type_message(job.job_type, postponement.patience)
    else:
        message = no_handler_message(job.job_type, postponement.worker)
    if worker_lost:
        # What its handler has still to hear stays at the end, under one such remark.
        error = job.error_message or ""
        message = error if error.startswith(NO_HANDLER) and not given_up else f"{message}. {error}"
    if given_up:
        return replace(job, status=JobStatus.DEAD_LETTER, error_message=message, failed_at=now)
    return replace(due(job), error_message=message)


def cancelled(job: Job, now: datetime, *, running: bool = False) -> Job | None:
    """Cancel a job that has not started or waits for a retry; with ``running`` also one that runs.

    None where it is too late.
    """
    if job.status not in (CANCELLABLE_RUNNING if running else WAITING):
        return None
    return replace(job, status=JobStatus.FAILED, error_message=CANCELLED_MESSAGE, failed_at=now)


def requeued(job: Job) -> Job | None:
    """Start a job afresh that FAILED or is a DEAD_LETTER; None in any other state."""
    if job.status not in REQUEUABLE:
        return None
    return replace(
        job,
        status=JobStatus.PENDING,
        retry_count=0,
        scheduled_at=None,
        started_at=None,
        failed_at=None,
        error_message=None,
    )


def as_it_failed(job: Job) -> Job:
    """Return a lost worker's job as it was when it failed: the reaper has counted that retry already."""
    if job.status is JobStatus.DEAD_LETTER:
        return job
    return replace(job, status=JobStatus.RUNNING, retry_count=job.retry_count - 1)


def owes_loss_notice(job: Job, worker_lost: bool) -> bool:
    """Whether a dead letter's handler has still to hear that its worker was lost."""
    return worker_lost and job.status is JobStatus.DEAD_LETTER


def queue_stats(queue_name: str, counts: Mapping[JobStatus, int]) -> QueueStats:
    """Sum up a queue. What waits for its time or for a retry is pending."""
    return QueueStats(
        queue_name=queue_name,
        pending_count=sum(counts.get(status, 0) for status in WAITING),
        running_count=counts.get(JobStatus.RUNNING, 0),
        completed_count=counts.get(JobStatus.COMPLETED, 0),
        failed_count=counts.get(JobStatus.FAILED, 0),
        dead_letter_count=counts.get(JobStatus.DEAD_LETTER, 0),
    )
