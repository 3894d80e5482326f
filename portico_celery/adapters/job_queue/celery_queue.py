"""The JobQueueAdapter over a job store and Celery: the row is the job, the message a knock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, TypeVar
from uuid import UUID

from portico_celery.adapters.celery.cancelling import cancel
from portico_celery.adapters.celery.process_io import ProcessIO, ProcessIOProvider
from portico_celery.adapters.celery.pull.pull_mode import PullMode
from portico_celery.adapters.job_queue.store_queue import StoreJobQueue, as_uuid
from portico_celery.event_loop import AwaitableFuture
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_claims import JobClaims, KnownTypes
from portico_celery.ports.job_store import ClaimedJob, Finish, JobStore, Knock

T = TypeVar("T")


class CeleryJobQueueAdapter(StoreJobQueue, JobClaims):
    """Creates and settles jobs in the store, and knocks for them over Celery's broker, in the background.

    Jobs are taken by Celery workers, or one by one by ``dequeue``, which may share a queue.
    """

    def __init__(self, io: ProcessIOProvider, make_pull_mode: Callable[[ProcessIO], PullMode]) -> None:
        super().__init__()
        self._provider = io
        self._make_pull_mode = make_pull_mode

    @property
    def _io(self) -> ProcessIO:
        return self._provider.get()

    async def dequeue(self, queue_name: str, timeout: float = 30) -> Job | None:
        """Wait up to ``timeout`` seconds for a job, and take it; with 0, look once. Needs an event loop, any.

        This process holds the job until somebody, who may be in another, acknowledges or rejects it; where the process
        ends before, or closes its adapter, the job comes back after portico_lease_seconds, which spends a retry.

        While the broker is away it waits on. Raises StoreUnavailable at the end of the timeout where a job was there
        and the store did not answer, ValidationError for a queue name that can't be.
        """
        deadline = time.monotonic() + timeout
        while True:
            claimed = await self.take(queue_name, deadline - time.monotonic())
            if claimed is None:
                return None
            if claimed.job.status is JobStatus.RUNNING:
                self._io.leases.keep(claimed)
                return self._handed_out(claimed)
            await self._leave_to_its_handler(claimed, self._io.settings.unknown_job_type_seconds)

    async def take(self, queue_name: str, timeout: float = 30, *, known: KnownTypes | None = None) -> ClaimedJob | None:
        """Take a job with the attempt that holds it, or a dead letter whose handler has to hear of a lost worker."""
        return await self._io.companion(self._make_pull_mode).take(queue_name, timeout, known)

    async def cancel_job(self, job_id: UUID | str, *, running: bool = False) -> bool:
        """Cancel a job that has not started or waits for a retry; True only if this call did it.

        With ``running`` a job that runs is cancelled as well: its worker learns of it when it next renews its lease. A
        worker is told of either, which tells whoever waits for the job in Celery.
        """
        io, wanted = self._io, as_uuid(job_id)
        return await self._write(lambda store: cancel(io, store, wanted, running=running))

    def held(
        self, claimed: ClaimedJob, interrupt: Callable[[], None], *, can_go_on: Callable[[], bool] = lambda: True
    ) -> AbstractContextManager[None]:
        """Keep the job's lease alive; ``interrupt`` is called where the job is cancelled, or the lease was lost."""
        return self._io.leases.held(claimed, interrupt, can_go_on=can_go_on)

    async def close(self) -> None:
        """Flush knocks and release this process's connections; the next use opens them again.

        Jobs that were dequeued here and are not settled are left to their leases: another instance may settle them.
        Raises StillInUse while jobs, or a worker, run in this process.
        """
        # Not here, in an event loop that others share: it may wait some seconds for a broker that does not answer.
        closing = Future[None]()
        threading.Thread(target=_settle, args=(closing, self._provider.close), name="portico-close").start()
        await AwaitableFuture(closing)

    async def _read(self, call: Callable[[JobStore], T]) -> T:
        return await AwaitableFuture(self._io.reads.call(call))

    async def _write(self, call: Callable[[JobStore], T]) -> T:
        return await AwaitableFuture(self._io.writes.call(call))

    async def _insert(self, jobs: Sequence[Job]) -> list[tuple[Job, bool]]:
        return await AwaitableFuture(self._io.insert(jobs))

    async def _finish(self, finish: Finish) -> Job | None:
        (job,) = await AwaitableFuture(self._io.finish(finish))
        return job

    @property
    def _knock_seconds(self) -> float:
        return self._io.settings.knock_seconds

    def _announce(self, job: Job, *, delay: float = 0.0, envelope: Mapping[str, Any] | None = None) -> None:
        # What has to wait is for the sweep.
        if job.status is not JobStatus.SCHEDULED and delay <= 0:
            self._io.knock(Knock(job=job, envelope=envelope))


def _settle(future: Future[None], work: Callable[[], None]) -> None:
    try:
        work()
    except Exception as error:  # noqa: BLE001  # handed on to whoever waits
        future.set_exception(error)
    else:
        future.set_result(None)
