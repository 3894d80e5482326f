"""A Celery worker in this process, on its main thread, as ``celery worker --pool=threads`` would run it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from celery import Celery
from celery.app.trace import setup_worker_optimizations
from celery.exceptions import WorkerShutdown
from celery.utils.nodenames import default_nodename, host_format
from celery.worker import WorkController, state

_CONCURRENCY = 4
_EXIT_OK = 0
# As a shell reports a process that a signal ended.
_SIGNALLED = 128
_FAREWELL = b"\nStopping when the jobs in hand have ended; Ctrl-C again stops at once.\n"


def run_worker(app: Celery, *, when_ready: Callable[[], None], stopping: threading.Event) -> int:
    """Run a worker until SIGINT or SIGTERM; a second one ends the process at once. Returns the worker's exit code.

    ``when_ready`` is called when it takes messages, and ``stopping`` is set when it is told to stop.
    """
    hostname = host_format(default_nodename("demo@%h"))
    setup_worker_optimizations(app, hostname)
    worker = WorkController(
        app=app,
        hostname=hostname,
        pool="threads",
        concurrency=_CONCURRENCY,
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        ready_callback=lambda _consumer: when_ready(),
    )
    signals = _StopSignals(stopping)
    signals.install()
    worker.start()
    signals.settle()
    return worker.exitcode or _EXIT_OK


def stop_worker() -> None:
    """Stop it from any thread."""
    os.kill(os.getpid(), signal.SIGTERM)


class _StopSignals:
    """The first signal stops the worker, the next ends the process."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        # Beside the event, whose lock this very thread may hold when a signal comes.
        self._told = False

    def install(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def settle(self) -> None:
        """The worker has stopped, told or not."""
        self._told = True
        self._stopping.set()

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self._told:
            # Nothing to tidy up: the jobs are in the store, and what ran is taken up again by the next run.
            os._exit(_SIGNALLED + number)
        self.settle()
        if number == signal.SIGINT:
            # Not by way of logging, which this thread may be in the middle of.
            os.write(sys.stderr.fileno(), _FAREWELL)
        # The worker looks at this only between two waits for messages, which take seconds.
        state.should_stop = _EXIT_OK  # type: ignore[assignment]  # the stubs know only its first value
        raise WorkerShutdown(_EXIT_OK)
