"""The leases of the jobs that run in this process, renewed from the I/O thread.

A handler that blocks its event loop keeps its job; a process that dies, or stands still, loses it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from portico_celery.adapters.celery.io_thread import IOThread
from portico_celery.ports.job_store import ClaimedJob, JobStore, Lease
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

# Two renewals may fail before a lease is lost.
_RENEWALS_IN_A_LEASE = 3


class Leases:
    """Renews every lease held here, all in one call of the store."""

    def __init__(self, io: IOThread, *, lease_seconds: float) -> None:
        self._io = io
        self._lease_seconds = lease_seconds
        self._lock = threading.Lock()
        self._held: set[Lease] = set()

    @contextmanager
    def held(self, claimed: ClaimedJob) -> Iterator[None]:
        """Keep the lease of a claimed job alive."""
        lease = Lease(job_id=claimed.job.id, attempt=claimed.attempt)
        with self._lock:
            first = not self._held
            self._held.add(lease)
        if first:
            self._io.cease(self._renew)
            self._io.repeat(self._renew, after=self._lease_seconds / _RENEWALS_IN_A_LEASE)
        try:
            yield
        finally:
            self.release(lease)

    def release(self, lease: Lease) -> None:
        """Renew it no more: its attempt has ended."""
        with self._lock:
            self._held.discard(lease)

    def _renew(self, store: JobStore) -> float:
        pause = self._lease_seconds / _RENEWALS_IN_A_LEASE
        with self._lock:
            leases = list(self._held)
        if not leases:
            return pause
        kept = store.extend(leases, lease_seconds=self._lease_seconds)
        for lease, alive in zip(leases, kept, strict=True):
            if not alive:
                self._forget(lease)
        return pause

    def _forget(self, lease: Lease) -> None:
        with self._lock:
            lost = lease in self._held
            self._held.discard(lease)
        if lost:
            # Its run goes on to its end here, and what it then reports is refused by the store.
            logger.warning("lease_lost", job_id=str(lease.job_id), attempt=lease.attempt)
