"""From a delivered message to a finished job: what a generated task does, as named steps."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, Protocol
from uuid import UUID

from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from celery.states import REVOKED

from portico_celery import event_loop
from portico_celery.adapters.celery.delivery import Delivery, claim_of
from portico_celery.adapters.celery.job_end import JobHasEnded, end_of, noted
from portico_celery.adapters.celery.process_io import ProcessIO, ProcessIOProvider
from portico_celery.adapters.celery.warm_shutdown import WarmShutdown
from portico_celery.adapters.job_store.reaper import reap_timed_out
from portico_celery.event_loop import AwaitableFuture
from portico_celery.exceptions import JobFailed, StoreError, StoreUnavailable, WorkerLost
from portico_celery.interruption import Interruption
from portico_celery.lifecycle import Failed, Outcome, RetryPolicy
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import JobRecord
from portico_celery.ports.job_store import Claim, ClaimedJob, Finish, JobStore, Lease, Transition
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

Record = Callable[[Transition], Awaitable[bool]]

_PAUSE_SECONDS = 1.0


class RunReport(Protocol):
    """How a run ended; the kit's runner returns it."""

    @property
    def transition(self) -> Transition: ...
    @property
    def error(self) -> Exception | None: ...
    @property
    def recorded(self) -> bool: ...


class Runner(Protocol):
    """What runs a claimed job; the kit's JobRunner."""

    async def run(self, claimed: ClaimedJob, record: Record, interruption: Interruption) -> RunReport: ...
    async def conclude(self, claimed: ClaimedJob, outcome: Outcome, record: Record) -> RunReport: ...
    async def tell_of_loss(self, claimed: ClaimedJob) -> WorkerLost: ...


class JobExecution:
    """Runs the jobs of one app in whatever process and thread Celery's pool calls it.

    ``runner`` and ``retry_policy`` are asked for when they are needed, since tasks are made before the app is
    configured, and ``shutdown`` at each job, since a worker arms it when it starts.
    """

    def __init__(
        self,
        io: ProcessIOProvider,
        runner: Callable[[], Runner],
        *,
        retry_policy: Callable[[], RetryPolicy],
        shutdown: Callable[[], WarmShutdown | None],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._provider = io
        self._runner = runner
        self._retry_policy = retry_policy
        self._shutdown = shutdown
        self._chance = chance

    def execute(self, delivery: Delivery) -> Any:
        """Run the job of a message, and answer as Celery expects it.

        Raises Ignore where there is nothing to do, JobHasEnded where the job had ended before, Retry where the sweep
        will knock again, else the job's own error.
        """
        io, shutdown = self._provider.get(), self._shutdown()
        if shutdown is not None:
            shutdown.watch(io)
        claimed = self._claim(io, delivery)
        if claimed.job.status is JobStatus.DEAD_LETTER:
            raise noted(claimed.job.id, self._tell_of_loss(io, claimed))
        interruption = Interruption()
        with io.leases.held(claimed, interruption.request):
            if shutdown is not None:
                shutdown.mind(interruption)
            report = self._run(io, claimed, interruption)
        if not report.recorded:
            return _answer_of_row(io, claimed)
        return _answer(claimed, report)

    def end_by_time_limit(self, job_id: UUID, *, worker: str, time_limit: float) -> Future[Job | None]:
        """End the attempt of a process that Celery's hard time limit kills, in the background.

        Gives the job as it is then: retried, or a dead letter. None where that process no longer held it.
        """

        def end(store: JobStore) -> Job | None:
            return reap_timed_out(store, job_id, worker=worker, time_limit=time_limit, retry_delay=self._retry_delay)

        return self._provider.get().writes.call(end)

    def _claim(self, io: ProcessIO, delivery: Delivery) -> ClaimedJob:
        try:
            worker = f"{delivery.worker_name}/{os.getpid()}"
            claim = claim_of(delivery, worker=worker, lease_seconds=io.settings.lease_seconds)
            claimed = _claim_patiently(io, claim)
            record = None if claimed is not None else _record(io, claim.job_id)
        except Exception as error:
            # Whatever it is: Celery would report a failure, and the message be gone.
            logger.error("claim_failed", task_id=delivery.task_id, job_type=delivery.job_type, error=repr(error))
            if delivery.comes_again:
                # The row stays due: the sweep knocks again.
                raise Ignore from error
            # No other message may come: back to its queue with it, but not in a tight circle.
            time.sleep(_PAUSE_SECONDS)
            raise Reject(error, requeue=True) from error
        if claimed is not None:
            return claimed
        logger.debug("nothing_to_claim", task_id=delivery.task_id, job_type=delivery.job_type)
        if record is None:
            hint = "it was deleted, or whoever created it has another portico_store_url"
            logger.warning("job_is_not_in_the_store", job_id=str(claim.job_id), job_type=delivery.job_type, hint=hint)
        end = end_of(record)
        raise Ignore if end is None else JobHasEnded(end)

    def _run(self, io: ProcessIO, claimed: ClaimedJob, interruption: Interruption) -> RunReport:
        record = _recorder(io, claimed)
        running = event_loop.submit(self._runner().run(claimed, record, interruption))
        try:
            return running.result()
        except SoftTimeLimitExceeded as error:
            # Celery's own soft time limit interrupts this thread, not the coroutine.
            running.cancel()
            return event_loop.submit(self._runner().conclude(claimed, Failed(error=error), record)).result()
        except BaseException:
            running.cancel()
            raise

    def _retry_delay(self, claimed: ClaimedJob) -> float:
        return self._retry_policy().delay(claimed.job.retry_count, self._chance())

    def _tell_of_loss(self, io: ProcessIO, claimed: ClaimedJob) -> WorkerLost:
        error = event_loop.submit(self._runner().tell_of_loss(claimed)).result()
        lease = Lease(job_id=claimed.job.id, attempt=claimed.attempt)
        io.writes.call(lambda store: store.settle_loss(lease)).result()
        return error


def _claim_patiently(io: ProcessIO, claim: Claim) -> ClaimedJob | None:
    # The same claim again: one that was stored although its answer was lost is answered as it was the first time.
    deadline = time.monotonic() + claim.lease_seconds
    while True:
        try:
            (claimed,) = io.claim(claim).result()
        except StoreUnavailable as error:
            if time.monotonic() > deadline:
                raise
            logger.warning("claim_waits_for_store", job_id=str(claim.job_id), error=str(error))
            time.sleep(_PAUSE_SECONDS)
        else:
            return claimed


def _recorder(io: ProcessIO, claimed: ClaimedJob) -> Record:
    async def record(transition: Transition) -> bool:
        finish = Finish(job_id=claimed.job.id, attempt=claimed.attempt, transition=transition)
        while True:
            try:
                (job,) = await AwaitableFuture(io.finish(finish))
            except StoreUnavailable as error:
                if io.writes.closing:
                    raise
                # The work is done. When the store is back it says whether the attempt still holds the job.
                logger.warning("end_waits_for_store", job_id=str(claimed.job.id), error=str(error))
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return job is not None

    return record


def _answer(claimed: ClaimedJob, report: RunReport) -> Any:
    transition, error = report.transition, report.error
    if transition.status is JobStatus.COMPLETED:
        return dict(transition.result_data or {})
    if transition.status is JobStatus.RETRYING:
        # Nothing is published: the sweep knocks when the backoff is over.
        raise Retry(exc=error, when=transition.delay)  # type: ignore[arg-type]  # a number, as the stub's Real
    failure = error or JobFailed(transition.error_message or f"job {claimed.job.id} failed")
    raise noted(claimed.job.id, failure) if transition.status is JobStatus.DEAD_LETTER else failure


def _answer_of_row(io: ProcessIO, claimed: ClaimedJob) -> Any:
    """Answer for a run whose end the store did not take."""
    try:
        record = _record(io, claimed.job.id)
    except StoreError as error:
        logger.warning("end_is_unknown", job_id=str(claimed.job.id), error=str(error))
        raise Ignore from error
    end = end_of(record)
    if end is not None and end.state == REVOKED:
        raise JobHasEnded(end)
    if end is not None and record is not None and record.attempts[-1].number == claimed.attempt:
        # This run's own: a soft time limit struck when the end had just been recorded.
        return end.answer()
    raise Ignore


def _record(io: ProcessIO, job_id: UUID) -> JobRecord | None:
    return io.reads.call(lambda store: store.get(job_id)).result()
