"""The life of a job, as pure functions: a job and what happened to it give the next job.

The runner, the queues' ``reject``, the reaper and the memory store all decide here, and the SQL store is held to the
same answers by the conformance suite. Nothing here reads a clock, draws a random number or does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from portico_celery.exceptions import JobFailed
from portico_celery.ports.job import Job, JobResult, JobStatus, QueueStats
from portico_celery.ports.job_store import Transition

WAITING = frozenset({JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.RETRYING})
TERMINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.DEAD_LETTER})
REQUEUABLE = frozenset({JobStatus.FAILED, JobStatus.DEAD_LETTER})
CANCELLED_MESSAGE = "Job cancelled"

MAX_MESSAGE_CHARS = 2_000
MAX_TRACEBACK_CHARS = 8_000
MAX_KNOCK_SECONDS = 3_600.0
MAX_KNOCK_DOUBLINGS = 16
# Beyond this exponent every delay is at its cap; it keeps 2 ** n from growing without bound.
_MAX_EXPONENT = 60


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff: ``base_delay * 2 ** retry_count`` seconds, at most ``max_delay``.

    ``jitter`` is the largest part of a delay that chance may take away, so that jobs that failed together do not all
    come back together.
    """

    base_delay: float = 2.0
    max_delay: float = 600.0
    jitter: float = 0.2

    def delay(self, retry_count: int, chance: float) -> float:
        """Return the wait in seconds before retry ``retry_count + 1``; ``chance`` is in [0, 1)."""
        full = min(self.max_delay, self.base_delay * 2.0 ** min(retry_count, _MAX_EXPONENT))
        return full * (1 - self.jitter * chance)


@dataclass(frozen=True, kw_only=True)
class Succeeded:
    """The handler returned success."""

    result_data: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The handler failed. ``retryable`` is False for an expected failure; ``error_message`` overrides the error's."""

    error: Exception | None = None
    retryable: bool = True
    error_message: str | None = None
    result_data: Mapping[str, Any] | None = None
    traceback: str | None = None


@dataclass(frozen=True, kw_only=True)
class Lost:
    """The worker that ran attempt ``attempt`` let its lease expire."""

    worker: str
    attempt: int


Outcome = Succeeded | Failed | Lost


def outcome_of(result: JobResult) -> Succeeded | Failed:
    """Read a handler's result: failure is final unless ``retry_recommended`` is True."""
    if result.success:
        return Succeeded(result_data=result.result_data)
    error: object = result.error
    data: Any = result.result_data
    if not isinstance(error, Exception):  # None, or text, whatever the port says
        error = JobFailed(f"the handler returned success=False: {error or data!r}")
    retryable = isinstance(data, Mapping) and data.get("retry_recommended") is True
    return Failed(error=error, retryable=retryable, result_data=data)


def decide(job: Job, outcome: Outcome, *, retry_delay: float = 0.0) -> Transition:
    """Decide where a running job goes. ``retry_delay`` (seconds) counts only if it is retried."""
    if isinstance(outcome, Succeeded):
        return Transition(status=JobStatus.COMPLETED, retry_count=job.retry_count, result_data=outcome.result_data)
    if isinstance(outcome, Lost):
        return _failure(job, _lost_message(job, outcome), retry_delay, worker_lost=True)
    message = outcome.error_message
    if message is None and outcome.error is not None:
        message = describe(outcome.error)
    message = None if message is None else _storable(message)[:MAX_MESSAGE_CHARS]
    failure = _failure(job, message, retry_delay) if outcome.retryable else _final_failure(job, message)
    trace = None if outcome.traceback is None else _storable(outcome.traceback)[-MAX_TRACEBACK_CHARS:]
    return replace(failure, result_data=outcome.result_data, traceback=trace)


def _failure(job: Job, message: str | None, retry_delay: float, *, worker_lost: bool = False) -> Transition:
    if job.retry_count < job.max_retries:
        return Transition(
            status=JobStatus.RETRYING,
            retry_count=job.retry_count + 1,
            delay=retry_delay,
            error_message=message,
            worker_lost=worker_lost,
        )
    return Transition(
        status=JobStatus.DEAD_LETTER,
        retry_count=job.retry_count,
        error_message=message,
        worker_lost=worker_lost,
    )


def _final_failure(job: Job, message: str | None) -> Transition:
    return Transition(status=JobStatus.FAILED, retry_count=job.retry_count, error_message=message)


def _lost_message(job: Job, lost: Lost) -> str:
    message = f"WorkerLost: {lost.worker} was lost during attempt {lost.attempt}; its outcome is unknown"
    return message if job.max_retries else f"{message}, and max_retries=0 forbids a second start"


def describe(error: BaseException) -> str:
    """Return ``Type: message``, cut to a bounded length."""
    try:
        text = str(error)
    except Exception as fault:  # noqa: BLE001 (an error's text is made by code of its own)
        text = f"its message can't be shown, {type(fault).__name__}"
    name = type(error).__name__
    return (f"{name}: {text}" if text else name)[:MAX_MESSAGE_CHARS]


def _storable(text: str) -> str:
    # Lone surrogates (from file names) have no UTF-8, and PostgreSQL's text takes no NUL.
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", r"\x00")


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


def cancelled(job: Job, now: datetime) -> Job | None:
    """Cancel a job that has not started or waits for a retry; None where it is too late."""
    if job.status not in WAITING:
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


def knock_delay(knocks: int, knock_seconds: float) -> float:
    """Return the wait before the next knock, in seconds: doubled by each knock so far, at most an hour."""
    return min(MAX_KNOCK_SECONDS, knock_seconds * 2.0 ** min(knocks, MAX_KNOCK_DOUBLINGS))


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
