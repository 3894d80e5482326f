"""The sweep of a process that is no worker: while somebody there waits for a job, retries and lost messages come."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from portico_celery.adapters.celery.process_io import ProcessIO
from portico_celery.adapters.celery.sweep import Sweep
from portico_celery.ports.job_store import JobStore

# For how long the sweep goes on after the last caller: a worker's loop comes back at once.
_LINGER_SECONDS = 5.0


class SweepOnDemand:
    """Sweeps while somebody waits for a job, and for some seconds after."""

    def __init__(self, io: ProcessIO, sweep: Sweep) -> None:
        self._io = io
        self._sweep = sweep
        self._lock = threading.Lock()
        self._callers = 0
        self._until = 0.0
        self._sweeps = False

    @contextmanager
    def needed(self) -> Iterator[None]:
        """Sweep inside the block."""
        with self._lock:
            self._callers += 1
            if not self._sweeps:
                self._sweeps = True
                self._io.writes.repeat(self._run)
        try:
            yield
        finally:
            with self._lock:
                self._callers -= 1
                self._until = time.monotonic() + _LINGER_SECONDS

    def stop(self) -> None:
        """Sweep no more."""
        self._io.writes.cease(self._run)

    def _run(self, store: JobStore) -> float:
        with self._lock:
            if not self._callers and time.monotonic() > self._until:
                self._sweeps = False
                self._io.writes.cease(self._run)
                return _LINGER_SECONDS
        return self._sweep.run(store)
