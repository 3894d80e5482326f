"""Warm shutdown: what is in flight may end within a grace period, and the rest is given back.

Celery waits for its tasks for as long as they take, until whoever stops the worker loses patience and kills it, which
costs each job in flight a retry.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import wait

import billiard
import billiard.pool

from portico_celery.adapters.celery.process_io import ProcessIO
from portico_celery.exceptions import StoreError
from portico_celery.interruption import CLEANUP_SECONDS, Interruption
from portico_celery.lifecycle import Released, decide
from portico_celery.ports.job_store import ClaimedJob, Finish
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

# Of a tenth of a second each.
_EXIT_WAITS = 30


class WarmShutdown:
    """Tells every process of a worker that it shuts down; ``grace`` is in seconds.

    ``stopped`` is set in the worker's main process when it has shut down, in good order or not.
    """

    def __init__(self, *, grace: float, stopped: threading.Event) -> None:
        self._grace = grace
        self._stopped = stopped
        # A pipe is inherited by the pool's processes, whenever they are forked, and writing to it is all that a
        # signal handler may do. Nobody reads: to all who wait for it it stays readable.
        self._reader, self._writer = Pipe(duplex=False)
        os.set_blocking(self._writer.fileno(), False)
        self._lock = threading.Lock()
        self._watching_pid: int | None = None
        self._giving_back = False

    def begin(self) -> None:
        """The worker shuts down. Idempotent, and safe in a signal handler."""
        with suppress(BlockingIOError):
            os.write(self._writer.fileno(), b".")

    def watch(self, io: ProcessIO) -> None:
        """See to it that this process hears of the shutdown. Idempotent."""
        with self._lock:
            first, self._watching_pid = self._watching_pid != os.getpid(), os.getpid()
        if first:
            threading.Thread(target=self._give_back_in_time, args=[io], name="portico-shutdown", daemon=True).start()

    def mind(self, interruption: Interruption) -> None:
        """See to a run that is about to begin in this process, and holds its lease, when the worker shuts down."""
        if self._giving_back:
            # It has not begun, so that this does no harm to a job that may start but once.
            interruption.request()

    def _give_back_in_time(self, io: ProcessIO) -> None:
        wait([self._reader])
        _wait_less_at_exit()
        self._stopped.wait(self._grace)
        # Even where it has stopped: in a cold shutdown the threads of a pool go on with their jobs.
        self._giving_back = True
        interrupted = io.leases.interrupt()
        # Once; and where the store is away, until it is back or the process ends.
        while interrupted and not io.writes.closing:
            time.sleep(CLEANUP_SECONDS)
            held = [claimed for claimed in interrupted if io.leases.holds(claimed)]
            interrupted = [claimed for claimed in held if not _given_back(io, claimed)]


def _wait_less_at_exit() -> None:
    # A prefork worker that shuts down forgets what it has handed to a process and not yet seen begin. The process runs
    # it all the same, and billiard then has it wait for half a minute for somebody to take note of its result.
    if billiard.current_process().name != "MainProcess":
        billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = _EXIT_WAITS


def _given_back(io: ProcessIO, claimed: ClaimedJob) -> bool:
    released = Released(worker=claimed.worker, attempt=claimed.attempt)
    finish = Finish(job_id=claimed.job.id, attempt=claimed.attempt, transition=decide(claimed.job, released))
    fields = {"job_id": str(claimed.job.id), "job_type": claimed.job.job_type, "attempt": claimed.attempt}
    try:
        (job,) = io.finish(finish).result()
    except StoreError as error:
        logger.error("giving_back_failed", **fields, error=str(error))
        return False
    if job is not None:
        hint = "its handler does not stop when it is cancelled: it may run here and elsewhere at once"
        logger.warning("job_given_back_while_it_runs", **fields, hint=hint)
    return True
