"""From a delivered message to a finished job: what a generated task does, as named steps."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded

from portico_celery import event_loop
from portico_celery.adapters.celery import knock
from portico_celery.adapters.celery.process_io import ProcessIO, ProcessIOProvider
from portico_celery.event_loop import AwaitableFuture
from portico_celery.exceptions import JobFailed, StoreError, StoreUnavailable, WorkerLost
from portico_celery.lifecycle import Failed, Outcome
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_store import Claim, ClaimedJob, Finish, Lease, Transition
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

    async def run(self, claimed: ClaimedJob, record: Record) -> RunReport: ...
    async def conclude(self, claimed: ClaimedJob, outcome: Outcome, record: Record) -> RunReport: ...
    async def tell_of_loss(self, claimed: ClaimedJob) -> WorkerLost: ...


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A message as Celery delivered it to a generated task."""

    job_type: str
    task_id: str
    worker_name: str
    request: Mapping[str, Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def knocked_job_id(self) -> UUID | None:
        """The job that the message knocks for; None for a plain Celery client's message."""
        return knock.knocked_job_id(self.request.get("headers") or {})


class JobExecution:
    """Runs the jobs of one app in whatever process and thread Celery's pool calls it.

    ``runner`` is asked for at the first job, since tasks are made before the app is configured.
    """

    def __init__(self, io: ProcessIOProvider, runner: Callable[[], Runner]) -> None:
        self._provider = io
        self._runner = runner

    def execute(self, delivery: Delivery) -> Any:
        """Run the job of a message, and answer as Celery expects it.

        Raises Ignore where there is nothing to do, Retry where the sweep will knock again, else the job's own error.
        """
        io = self._provider.get()
        claimed = self._claim(io, delivery)
        if claimed.job.status is JobStatus.DEAD_LETTER:
            raise self._tell_of_loss(io, claimed)
        with io.leases.held(claimed):
            report = self._run(io, claimed)
        return _answer(claimed, report)

    def _claim(self, io: ProcessIO, delivery: Delivery) -> ClaimedJob:
        try:
            (claimed,) = io.claim(_claim_of(io, delivery)).result()
        except StoreError as error:
            logger.error("claim_failed", task_id=delivery.task_id, job_type=delivery.job_type, error=str(error))
            if delivery.knocked_job_id is not None:
                # The row stays due: the sweep knocks again.
                raise Ignore from error
            # This message is all there is of the job: back to its queue with it, but not in a tight circle.
            time.sleep(_PAUSE_SECONDS)
            raise Reject(error, requeue=True) from error
        if claimed is None:
            logger.debug("nothing_to_claim", task_id=delivery.task_id, job_type=delivery.job_type)
            raise Ignore
        return claimed

    def _run(self, io: ProcessIO, claimed: ClaimedJob) -> RunReport:
        record = _recorder(io, claimed)
        running = event_loop.submit(self._runner().run(claimed, record))
        try:
            return running.result()
        except SoftTimeLimitExceeded as error:
            # Celery's own soft time limit interrupts this thread, not the coroutine.
            running.cancel()
            return event_loop.submit(self._runner().conclude(claimed, Failed(error=error), record)).result()
        except BaseException:
            running.cancel()
            raise

    def _tell_of_loss(self, io: ProcessIO, claimed: ClaimedJob) -> WorkerLost:
        error = event_loop.submit(self._runner().tell_of_loss(claimed)).result()
        lease = Lease(job_id=claimed.job.id, attempt=claimed.attempt)
        io.writes.call(lambda store: store.settle_loss(lease)).result()
        return error


def _claim_of(io: ProcessIO, delivery: Delivery) -> Claim:
    lease_seconds = io.settings.lease_seconds
    worker = f"{delivery.worker_name}/{os.getpid()}"
    job_id = delivery.knocked_job_id
    if job_id is not None:
        return Claim(job_id=job_id, worker=worker, lease_seconds=lease_seconds)
    job = _adopted_job(delivery)
    return Claim(
        job_id=job.id,
        worker=worker,
        lease_seconds=lease_seconds,
        adopt=job,
        envelope=knock.envelope_of(delivery.task_id, delivery.request),
    )


def _adopted_job(delivery: Delivery) -> Job:
    delivered = delivery.request.get("delivery_info") or {}
    return Job(
        id=knock.adopted_job_id(delivery.task_id),
        queue_name=str(delivered.get("routing_key") or "default"),
        job_type=delivery.job_type,
        payload=knock.adopted_payload(delivery.args, delivery.kwargs),
        priority=int(delivered.get("priority") or 0),
    )


def _recorder(io: ProcessIO, claimed: ClaimedJob) -> Record:
    async def record(transition: Transition) -> bool:
        finish = Finish(job_id=claimed.job.id, attempt=claimed.attempt, transition=transition)
        deadline = time.monotonic() + io.settings.lease_seconds
        while True:
            try:
                (job,) = await AwaitableFuture(io.finish(finish))
            except StoreUnavailable:
                # The work is done: worth trying for as long as nobody else can have taken the job.
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return job is not None

    return record


def _answer(claimed: ClaimedJob, report: RunReport) -> Any:
    transition, error = report.transition, report.error
    if not report.recorded:
        raise Ignore
    if transition.status is JobStatus.COMPLETED:
        return dict(transition.result_data or {})
    if transition.status is JobStatus.RETRYING:
        # Nothing is published: the sweep knocks when the backoff is over.
        raise Retry(exc=error, when=transition.delay)  # type: ignore[arg-type]  # a number, as the stub's Real
    raise error or JobFailed(transition.error_message or f"job {claimed.job.id} failed")
