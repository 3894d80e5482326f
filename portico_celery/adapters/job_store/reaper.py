"""Giving up the attempts whose lease has run out, or whose process is killed at a time limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from portico_celery.lifecycle import Lost, decide
from portico_celery.ports.job import Job
from portico_celery.ports.job_store import ClaimedJob, Finish, JobStore
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)


def reap(store: JobStore, expired: ClaimedJob, *, retry_delay: float) -> Job | None:
    """End an attempt whose worker was lost: the job as it is now, or None where the attempt has been renewed."""
    return reap_all(store, [expired], retry_delay=lambda _expired: retry_delay)[0]


def reap_all(
    store: JobStore, expired: Sequence[ClaimedJob], *, retry_delay: Callable[[ClaimedJob], float]
) -> list[Job | None]:
    """End attempts whose worker was lost, in one call of the store."""
    if not expired:
        return []
    jobs = store.finish([_finish_of(claimed, retry_delay(claimed)) for claimed in expired])
    for claimed, job in zip(expired, jobs, strict=True):
        _log_loss(claimed, job)
    return jobs


def reap_timed_out(
    store: JobStore, job_id: UUID, *, worker: str, time_limit: float, retry_delay: Callable[[ClaimedJob], float]
) -> Job | None:
    """End the attempt of a worker that is killed at a time limit (seconds); None where it does not hold the job."""
    held = store.holder(job_id)
    if held is None or held.worker != worker:
        return None
    lost = Lost(worker=worker, attempt=held.attempt, time_limit=time_limit)
    transition = decide(held.job, lost, retry_delay=retry_delay(held))
    (job,) = store.finish([Finish(job_id=job_id, attempt=held.attempt, transition=transition)])
    _log_loss(held, job)
    return job


def _log_loss(claimed: ClaimedJob, job: Job | None) -> None:
    if job is not None:
        logger.warning(
            "worker_lost",
            job_id=str(job.id),
            job_type=job.job_type,
            worker=claimed.worker,
            attempt=claimed.attempt,
            status=job.status.value,
        )


def _finish_of(expired: ClaimedJob, retry_delay: float) -> Finish:
    lost = Lost(worker=expired.worker, attempt=expired.attempt)
    transition = decide(expired.job, lost, retry_delay=retry_delay)
    return Finish(job_id=expired.job.id, attempt=expired.attempt, transition=transition, expired_only=True)
