"""The leases of the jobs that run in this process, renewed from the I/O thread.

A handler that blocks its event loop keeps its job; a process that dies, or stands still, loses it. A renewal also
learns that a job was lost or cancelled, and then its handler is stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from portico_celery.adapters.celery.io_thread import IOThread
from portico_celery.ports.job_store import ClaimedJob, JobStore, Lease
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

# Two renewals may fail before a lease is lost.
_RENEWALS_IN_A_LEASE = 3


@dataclass(frozen=True, kw_only=True)
class _Held:
    claimed: ClaimedJob
    interrupt: Callable[[], None] | None
    can_go_on: Callable[[], bool]


def _always() -> bool:
    return True


class Leases:
    """Renews every lease held here, all in one call of the store."""

    def __init__(self, io: IOThread, *, lease_seconds: float) -> None:
        self._io = io
        self._lease_seconds = lease_seconds
        self._lock = threading.Lock()
        self._held: dict[Lease, _Held] = {}

    @property
    def renewed_every(self) -> float:
        """The pause between two renewals, in seconds."""
        return self._lease_seconds / _RENEWALS_IN_A_LEASE

    @property
    def runs(self) -> int:
        """How many jobs run here."""
        with self._lock:
            return sum(held.interrupt is not None and held.can_go_on() for held in self._held.values())

    @contextmanager
    def held(
        self, claimed: ClaimedJob, interrupt: Callable[[], None], *, can_go_on: Callable[[], bool] = _always
    ) -> Iterator[None]:
        """Keep the lease of a claimed job alive, as long as its run ``can_go_on``.

        ``interrupt`` is called, from any thread, when the run should stop.
        """
        self.keep(claimed, interrupt, can_go_on)
        try:
            yield
        finally:
            self.release(_lease_of(claimed))

    def keep(
        self,
        claimed: ClaimedJob,
        interrupt: Callable[[], None] | None = None,
        can_go_on: Callable[[], bool] = _always,
    ) -> None:
        """Keep the lease of a claimed job alive until ``release``, or until the job has been settled elsewhere.

        Without ``interrupt`` nothing here runs the job that could be stopped: whoever has it may settle it anywhere.
        """
        with self._lock:
            first = not self._held
            self._held[_lease_of(claimed)] = _Held(claimed=claimed, interrupt=interrupt, can_go_on=can_go_on)
        if first:
            self._io.cease(self._renew)
            self._io.repeat(self._renew, after=self.renewed_every)

    def release(self, lease: Lease) -> None:
        """Renew it no more: its attempt has ended."""
        with self._lock:
            self._held.pop(lease, None)

    def interrupt(self) -> list[ClaimedJob]:
        """Stop every run whose job may start again elsewhere; returns those jobs."""
        with self._lock:
            held = [(held.claimed, held.interrupt) for held in self._held.values() if held.claimed.job.max_retries > 0]
        stopped = []
        for claimed, interrupt in held:
            if interrupt is not None:
                interrupt()
                stopped.append(claimed)
        return stopped

    def holds(self, claimed: ClaimedJob) -> bool:
        """Whether the attempt has not ended."""
        with self._lock:
            return _lease_of(claimed) in self._held

    def _renew(self, store: JobStore) -> float:
        leases = self._alive()
        if not leases:
            return self.renewed_every
        kept = store.extend(leases, lease_seconds=self._lease_seconds)
        for lease, alive in zip(leases, kept, strict=True):
            if not alive:
                self._forget(lease)
        return self.renewed_every

    def _alive(self) -> list[Lease]:
        with self._lock:
            gone = [lease for lease, held in self._held.items() if not held.can_go_on()]
            for lease in gone:
                # As if its process had died: whoever sweeps takes the job up again.
                del self._held[lease]
                logger.warning("run_is_gone", job_id=str(lease.job_id), attempt=lease.attempt)
            return list(self._held)

    def _forget(self, lease: Lease) -> None:
        with self._lock:
            lost = self._held.pop(lease, None)
        if lost is not None and lost.interrupt is not None:
            # Another has the job, or it was cancelled. What this run still reports is refused by the store.
            logger.warning("lease_lost", job_id=str(lease.job_id), attempt=lease.attempt)
            lost.interrupt()


def _lease_of(claimed: ClaimedJob) -> Lease:
    return Lease(job_id=claimed.job.id, attempt=claimed.attempt)
