"""The JobQueueAdapter in this process's memory, for tests and trials: no broker, no store, nothing survives.

Jobs go through the memory store, which serialises them as the others do, so that what works here works there.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from portico_celery.adapters.job_queue.ready_jobs import ReadyJobs
from portico_celery.adapters.job_queue.store_queue import StoreJobQueue, as_uuid, lease_of
from portico_celery.adapters.job_queue.waiting_callers import Waiter, WaitingCallers
from portico_celery.adapters.job_store.memory_store import MemoryJobStore
from portico_celery.adapters.job_store.reaper import reap
from portico_celery.exceptions import ValidationError
from portico_celery.lifecycle import SHORTEST_POSTPONEMENT, RetryPolicy
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_claims import JobClaims, KnownTypes
from portico_celery.ports.job_store import Claim, ClaimedJob, Finish, JobStore, Lease, Postponement
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

T = TypeVar("T")

# Nothing is lost on the way to a caller here, so that nobody need be told again.
_KNOCK_SECONDS = 3_600.0
# How seldom due work is looked for, so that ended jobs are cleared away.
_LONGEST_PAUSE = 60.0
_ALL = 1_000_000_000
# For how long a dead letter waits for a worker that can tell its handler of the worker that was lost.
_NOTICE_PATIENCE = 900.0


def _always() -> bool:
    return True


def _nobody() -> None:
    return


@dataclass(frozen=True)
class _Hold:
    """Why a lease does not run out: the run of a worker or, as by default, a caller that has dequeued the job."""

    interrupt: Callable[[], None] = _nobody
    can_go_on: Callable[[], bool] = _always


class MemoryJobQueueAdapter(StoreJobQueue, JobClaims):
    """Hands out jobs to callers of ``dequeue``, in any thread and event loop of this process.

    A job that was dequeued stays with its caller until somebody settles it. One that a worker took and does not hold
    for ``lease_seconds`` comes back, which spends a retry; ``retry_policy`` says after which delay. The store is this
    adapter's alone.
    """

    def __init__(
        self,
        *,
        lease_seconds: float = 30.0,
        retry_policy: RetryPolicy | None = None,
        store: MemoryJobStore | None = None,
    ) -> None:
        super().__init__()
        self._store = MemoryJobStore() if store is None else store
        self._lease_seconds = lease_seconds
        self._retry_policy = retry_policy or RetryPolicy()
        self._worker = f"{socket.gethostname()}/{os.getpid()}/memory"
        self._lock = threading.RLock()
        self._ready = ReadyJobs()
        self._callers = WaitingCallers()
        self._held: dict[Lease, _Hold] = {}
        self._next_look = self._store.clock()

    async def dequeue(self, queue_name: str, timeout: float = 30) -> Job | None:
        """Wait up to ``timeout`` seconds for a job, and take it."""
        deadline = time.monotonic() + timeout
        while True:
            claimed = await self.take(queue_name, deadline - time.monotonic())
            if claimed is None:
                return None
            if claimed.job.status is JobStatus.RUNNING:
                with self._lock:
                    self._held[lease_of(claimed)] = _Hold()
                return self._handed_out(claimed)
            await self._leave_to_its_handler(claimed, _NOTICE_PATIENCE)
            self._look_in(SHORTEST_POSTPONEMENT)

    async def take(self, queue_name: str, timeout: float = 30, *, known: KnownTypes | None = None) -> ClaimedJob | None:
        """Take a job with the attempt that holds it, or a dead letter whose handler has to hear of a lost worker."""
        if not queue_name:
            raise ValidationError("queue_name must not be empty")
        deadline = time.monotonic() + timeout
        while True:
            # Looking and beginning to wait are one step: nobody can announce a job in between, unheard.
            with self._lock:
                claimed = self._claim_next(queue_name, known)
                remaining = deadline - time.monotonic()
                if claimed is not None or remaining <= 0:
                    return claimed
                waiter = self._callers.add(queue_name)
                pause = min(remaining, self._seconds_to_next_look())
            await self._wait(waiter, pause)

    async def _wait(self, waiter: Waiter, seconds: float) -> None:
        timer = waiter.loop.call_later(seconds, waiter.wake_up)
        try:
            await waiter.woken
        except BaseException:
            with self._lock:
                if not self._callers.remove(waiter) and self._ready.any(waiter.queue_name):
                    # It was told of a job that it will not look for any more.
                    self._callers.wake_one(waiter.queue_name)
            raise
        finally:
            timer.cancel()
        with self._lock:
            self._callers.remove(waiter)

    def _claim_next(self, queue_name: str, known: KnownTypes | None) -> ClaimedJob | None:
        self._look_for_due_work()
        while (ready := self._ready.pop(queue_name)) is not None:
            job_id, job_type = ready
            if known is not None and not known.includes(job_type):
                self._put_back(job_id, job_type, known.patience)
                continue
            claim = Claim(job_id=job_id, worker=self._worker, lease_seconds=self._lease_seconds)
            (claimed,) = self._store.claim([claim])
            if claimed is not None:
                self._look_in(self._lease_seconds)
                return claimed
        return None

    def _put_back(self, job_id: UUID, job_type: str, patience: float) -> None:
        logger.warning("unknown_job_type", job_id=str(job_id), job_type=job_type)
        postponement = Postponement(job_id=job_id, job_type=job_type, worker=self._worker, patience=patience)
        self._store.postpone([postponement])
        self._look_in(SHORTEST_POSTPONEMENT)

    def _look_for_due_work(self) -> None:
        # Again where giving up an attempt has made its job due.
        while (now := self._store.clock()) >= self._next_look:
            due = self._store.take_due(limit=_ALL, knock_seconds=_KNOCK_SECONDS)
            pause = _LONGEST_PAUSE if due.next_due_in is None else min(_LONGEST_PAUSE, due.next_due_in)
            self._next_look = now + timedelta(seconds=pause)
            for knock in due.knocks:
                self._make_ready(knock.job)
            for expired in due.expired:
                self._renew_or_reap(expired)

    def _renew_or_reap(self, expired: ClaimedJob) -> None:
        lease = lease_of(expired)
        hold = self._held.get(lease)
        if hold is not None and hold.can_go_on():
            self._store.extend([lease], lease_seconds=self._lease_seconds)
            self._look_in(self._lease_seconds)
            return
        delay = self._retry_policy.delay(expired.job.retry_count, random.random())  # noqa: S311  # no secret
        job = reap(self._store, expired, retry_delay=delay)
        if job is not None:
            self._look_in(delay if job.status is JobStatus.RETRYING else 0.0)

    def _look_in(self, seconds: float) -> None:
        at = self._store.clock() + timedelta(seconds=seconds)
        if at < self._next_look:
            self._next_look = at
            # They wait for a later moment.
            self._callers.wake_all()

    def _seconds_to_next_look(self) -> float:
        return max(0.0, (self._next_look - self._store.clock()).total_seconds())

    def _make_ready(self, job: Job) -> None:
        if self._ready.add(job):
            self._callers.wake_one(job.queue_name)

    @contextmanager
    def held(
        self, claimed: ClaimedJob, interrupt: Callable[[], None], *, can_go_on: Callable[[], bool] = _always
    ) -> Iterator[None]:
        """Keep the job's lease alive; ``interrupt`` is called where the job is cancelled meanwhile."""
        lease = lease_of(claimed)
        with self._lock:
            self._held[lease] = _Hold(interrupt, can_go_on)
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(lease, None)

    async def cancel_job(self, job_id: UUID | str, *, running: bool = False) -> bool:
        """Cancel a job that has not started or waits for a retry; with ``running`` one that runs is told to stop."""
        wanted = as_uuid(job_id)
        cancelled = await super().cancel_job(wanted, running=running)
        if cancelled:
            with self._lock:
                ended = [self._held.pop(lease) for lease in list(self._held) if lease.job_id == wanted]
            for hold in ended:
                hold.interrupt()
        return cancelled

    async def close(self) -> None:
        """There is nothing to release; the jobs stay."""

    async def _read(self, call: Callable[[JobStore], T]) -> T:
        return call(self._store)

    async def _write(self, call: Callable[[JobStore], T]) -> T:
        return call(self._store)

    async def _insert(self, jobs: Sequence[Job]) -> list[tuple[Job, bool]]:
        return self._store.insert(jobs, knock_seconds=_KNOCK_SECONDS)

    async def _finish(self, finish: Finish) -> Job | None:
        (job,) = self._store.finish([finish])
        with self._lock:
            self._held.pop(Lease(job_id=finish.job_id, attempt=finish.attempt), None)
        return job

    @property
    def _knock_seconds(self) -> float:
        return _KNOCK_SECONDS

    def _announce(
        self,
        job: Job,
        *,
        delay: float = 0.0,
        envelope: Mapping[str, Any] | None = None,  # noqa: ARG002  # there is no message that would carry it
    ) -> None:
        with self._lock:
            if job.status is JobStatus.SCHEDULED and job.scheduled_at is not None:
                self._look_in((job.scheduled_at - self._store.clock()).total_seconds())
            elif delay > 0:
                self._look_in(delay)
            else:
                self._make_ready(job)
