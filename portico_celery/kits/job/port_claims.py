"""Jobs as claims, from a queue that has the port's nine methods and no more."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from portico_celery.exceptions import ResourceNotFoundError, StaleAttempt
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_claims import JobClaims, KnownTypes
from portico_celery.ports.job_queue import JobQueueAdapter
from portico_celery.ports.job_store import ClaimedJob, Transition


class PortClaims(JobClaims):
    """Settles jobs by acknowledge and reject.

    So results are not stored, what is given back spends a retry, nobody hears that an attempt has lost its job, and a
    job of an unknown type has to be taken, and fails.
    """

    def __init__(self, job_queue: JobQueueAdapter) -> None:
        self._job_queue = job_queue
        # An adapter by Portico's own port has no such keyword, and retries at once.
        self._can_delay = "retry_delay" in inspect.signature(job_queue.reject).parameters

    async def take(
        self,
        queue_name: str,
        timeout: float = 30,
        *,
        known: KnownTypes | None = None,  # noqa: ARG002  # the port has no way to put a job back unharmed
    ) -> ClaimedJob | None:
        """Take a job, of whatever type."""
        job = await self._job_queue.dequeue(queue_name, timeout=timeout)
        worker = type(self._job_queue).__name__
        return None if job is None else ClaimedJob(job=job, attempt=job.retry_count + 1, worker=worker)

    def held(
        self,
        claimed: ClaimedJob,  # noqa: ARG002  # how an adapter keeps its jobs is its own affair
        interrupt: Callable[[], None],  # noqa: ARG002
        *,
        can_go_on: Callable[[], bool] = lambda: True,  # noqa: ARG002
    ) -> AbstractContextManager[None]:
        """There is nothing to keep alive by the port."""
        return nullcontext()

    def can_give_back(self, claimed: ClaimedJob, *, started: bool) -> bool:  # noqa: ARG002  # the port can't tell them
        """By the port a job goes back by its rejection: with no retry left that would be its end."""
        return claimed.job.retry_count < claimed.job.max_retries

    async def finish(self, claimed: ClaimedJob, transition: Transition) -> bool:
        """Acknowledge or reject the job."""
        try:
            await self._settle(claimed, transition)
        except (StaleAttempt, ResourceNotFoundError):
            return False
        return True

    async def _settle(self, claimed: ClaimedJob, transition: Transition) -> None:
        job_id, message = claimed.job.id, transition.error_message
        if transition.status is JobStatus.COMPLETED:
            await self._job_queue.acknowledge(job_id)
        elif transition.status is JobStatus.FAILED:
            await self._job_queue.reject(job_id, requeue=False, error_message=message)
        elif self._can_delay and transition.delay > 0:
            delay = transition.delay
            await self._job_queue.reject(job_id, requeue=True, error_message=message, retry_delay=delay)
        else:
            await self._job_queue.reject(job_id, requeue=True, error_message=message)

    async def settle_loss(self, claimed: ClaimedJob) -> None:
        """By the port nobody hears of a lost worker."""


def claims_of(job_queue: JobQueueAdapter) -> JobClaims:
    """Return the queue itself where it hands out claims, else what the port allows."""
    return job_queue if isinstance(job_queue, JobClaims) else PortClaims(job_queue)
