"""Jobs whose type a worker has no handler for.

While a deployment rolls, old workers meet jobs that only new ones know. Celery drops such a message. Here the job is
put back, again and again, until a worker comes that knows it, or patience ends and it is a dead letter.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future

from portico_celery.adapters.celery.process_io import ProcessIOProvider
from portico_celery.ports.job import Job
from portico_celery.ports.job_store import JobStore, Postponement
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

# How often the same is said again. A worker may meet thousands of jobs of a type that it does not know.
_QUIET_SECONDS = 10.0
_HINT = "register its handler in this worker, or give its jobs a queue that only those consume that know it"


class UnknownJobs:
    """Puts back, or dead-letters, the jobs that a worker can't run."""

    def __init__(self, io: ProcessIOProvider, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._provider = io
        self._clock = clock
        # Only the I/O thread comes here, one call after the other.
        self._met: Counter[tuple[str, str]] = Counter()
        self._quiet_until: dict[tuple[str, str], float] = {}

    def put_back(self, postponement: Postponement, acknowledge: Callable[[], None]) -> None:
        """Put a job back, in the background; then ``acknowledge`` is called, from any thread.

        So no more of them wait here than the worker prefetches. Where the store is away the message is acknowledged as
        well: the row stays due, and the sweep knocks again when the store is back. To keep the messages till then would
        keep those of other jobs out, and to return them would have them come back in a tight circle.
        """
        writes = self._provider.get().writes

        def on_answer(done: Future[list[Job | None]]) -> None:
            # What a worker that stops has not acknowledged goes back to its queue.
            if not writes.closing:
                self._tell(done, postponement.job_type)
                acknowledge()

        writes.call_many(self._postpone, [postponement]).add_done_callback(on_answer)

    def _postpone(self, store: JobStore, postponements: list[Postponement]) -> list[Job | None]:
        io = self._provider.current
        stops = io is None or io.writes.closing
        return [None] * len(postponements) if stops else store.postpone(postponements)

    def _tell(self, done: Future[list[Job | None]], job_type: str) -> None:
        error = done.exception()
        if error is not None:
            count = self._count(("error", type(error).__name__))
            if count:
                logger.error("unknown_jobs_stay_due", count=count, error=str(error))
            return
        (job,) = done.result()
        count = 0 if job is None else self._count((job_type, job.status.value))
        if job is not None and count:
            logger.warning(
                "unknown_job_type",
                job_type=job_type,
                status=job.status.value,
                count=count,
                job_id=str(job.id),
                hint=_HINT,
            )

    def _count(self, what: tuple[str, str]) -> int:
        """Count one more; returns how many there have been since it was last told of, or 0 where it is too soon."""
        self._met[what] += 1
        now = self._clock()
        if now < self._quiet_until.get(what, now):
            return 0
        self._quiet_until[what] = now + _QUIET_SECONDS
        return self._met.pop(what)
