"""The sweep: knocks for what is due, and reaps the jobs of workers that were lost.

Every worker sweeps. Each step is compare-and-set in the store, so that there is no leader to elect or to lose.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from portico_celery.adapters.celery.process_io import ProcessIO
from portico_celery.exceptions import StoreUnavailable
from portico_celery.lifecycle import Lost, RetryPolicy, decide
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_store import ClaimedJob, Finish, JobStore, Knock
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

_MOST_AT_ONCE = 500
# So that the next due time is met, and not slept through by the thread's own rounding.
_SHORTEST_SLEEP = 0.001


class Sweep:
    """Looks for due work from the I/O thread, at the next due time it knows and at least each ``sweep_seconds``."""

    def __init__(
        self, io: ProcessIO, retry_policy: RetryPolicy, *, chance: Callable[[], float] = random.random
    ) -> None:
        self._io = io
        self._retry_policy = retry_policy
        self._chance = chance

    def start(self) -> None:
        """Prepare the store, and begin to sweep. Raises StoreSchemaTooNew; a store that is away may come back."""
        try:
            self._io.writes.call(lambda store: store.initialize()).result()
        except StoreUnavailable as error:
            logger.warning("store_unavailable_at_start", error=str(error))
        self._io.writes.repeat(self.run)

    def stop(self) -> None:
        """Cease to sweep."""
        self._io.writes.cease(self.run)

    def run(self, store: JobStore) -> float:
        """Sweep once; returns in how many seconds to sweep again."""
        longest = self._io.settings.sweep_seconds
        if self._io.publisher.behind:
            # Who can't be knocked for now keeps its place; jobs whose worker is lost wait for the broker as well.
            return longest
        due = store.take_due(limit=_MOST_AT_ONCE, knock_seconds=self._io.settings.knock_seconds)
        self._knock(store, due.knocks)
        reaped = [self._reap(store, expired) for expired in due.expired]
        if any(reaped):
            return _SHORTEST_SLEEP
        return longest if due.next_due_in is None else min(longest, max(_SHORTEST_SLEEP, due.next_due_in))

    def _knock(self, store: JobStore, knocks: Sequence[Knock]) -> None:
        doubtful: dict[str, list[Knock]] = {}
        for knock in knocks:
            if knock.again and knock.job.status is JobStatus.PENDING:
                doubtful.setdefault(knock.job.queue_name, []).append(knock)
            else:
                self._io.knock(knock)
        # A long backlog is not knocked for again and again: its messages still wait in the queue.
        for queue_name, again in doubtful.items():
            self._io.knock_if_lost(queue_name, again, pending=store.count_pending(queue_name))

    def _reap(self, store: JobStore, expired: ClaimedJob) -> bool:
        delay = self._retry_policy.delay(expired.job.retry_count, self._chance())
        lost = Lost(worker=expired.worker, attempt=expired.attempt)
        transition = decide(expired.job, lost, retry_delay=delay)
        finish = Finish(job_id=expired.job.id, attempt=expired.attempt, transition=transition, expired_only=True)
        reaped = store.finish([finish])[0] is not None
        if reaped:
            logger.warning(
                "worker_lost",
                job_id=str(expired.job.id),
                job_type=expired.job.job_type,
                worker=expired.worker,
                attempt=expired.attempt,
                status=transition.status.value,
            )
        return reaped
