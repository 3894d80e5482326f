"""Where an attempt that has ended leads its job."""

from __future__ import annotations

from dataclasses import replace

from portico_celery.lifecycle.error_text import cut_message, cut_traceback, describe, lost_message, released_message
from portico_celery.lifecycle.outcome import Failed, Lost, Outcome, Released, Succeeded
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_store import Transition


def decide(job: Job, outcome: Outcome, *, retry_delay: float = 0.0) -> Transition:
    """Decide where a running job goes. ``retry_delay`` (seconds) counts only if it is retried."""
    if isinstance(outcome, Succeeded):
        return Transition(status=JobStatus.COMPLETED, retry_count=job.retry_count, result_data=outcome.result_data)
    if isinstance(outcome, Lost):
        return _failure(job, lost_message(job, outcome), retry_delay, worker_lost=True)
    if isinstance(outcome, Released):
        return _given_back(job, outcome)
    return _after(job, outcome, retry_delay)


def _given_back(job: Job, released: Released) -> Transition:
    # It spends no retry: the handler did not fail.
    return Transition(status=JobStatus.RETRYING, retry_count=job.retry_count, error_message=released_message(released))


def _after(job: Job, outcome: Failed, retry_delay: float) -> Transition:
    message = outcome.error_message
    if message is None and outcome.error is not None:
        message = describe(outcome.error)
    message = None if message is None else cut_message(message)
    failure = _failure(job, message, retry_delay) if outcome.retryable else _final_failure(job, message)
    trace = None if outcome.traceback is None else cut_traceback(outcome.traceback)
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
