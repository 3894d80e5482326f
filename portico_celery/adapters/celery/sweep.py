"""The sweep: knocks for what is due, and reaps the jobs of workers that were lost.

Every worker sweeps. Each step is compare-and-set in the store, so that there is no leader to elect or to lose.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from portico_celery.adapters.celery.process_io import ProcessIO
from portico_celery.adapters.celery.start_checks import clock_skew
from portico_celery.adapters.job_store.reaper import reap_all
from portico_celery.exceptions import StoreUnavailable
from portico_celery.lifecycle import WAITING, RetryPolicy
from portico_celery.ports.job_store import ClaimedJob, JobStore, Knock
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

_MOST_AT_ONCE = 500
# So that the next due time is met, and not slept through by the thread's own rounding.
_SHORTEST_SLEEP = 0.001


def _initialize(store: JobStore) -> datetime:
    store.initialize()
    return store.clock()


class Sweep:
    """Looks for due work from the I/O thread, at the next due time it knows and at least each ``sweep_seconds``."""

    def __init__(
        self, io: ProcessIO, retry_policy: RetryPolicy, *, chance: Callable[[], float] = random.random
    ) -> None:
        self._io = io
        self._retry_policy = retry_policy
        self._chance = chance
        self._reaps_from = 0.0

    def start(self) -> None:
        """Prepare the store, and begin to sweep. Raises StoreSchemaTooNew; a store that is away may come back."""
        try:
            store_clock = self._io.writes.call(_initialize).result()
        except StoreUnavailable as error:
            logger.warning("store_unavailable_at_start", error=str(error))
        else:
            danger = clock_skew(store_clock, datetime.now(UTC))
            if danger is not None:
                logger.warning("clock_skew", danger=danger)
        self._io.sweeps = True
        self._io.writes.repeat(self.run)

    def stop(self) -> None:
        """Cease to sweep."""
        self._io.sweeps = False
        self._io.writes.cease(self.run)

    def run(self, store: JobStore) -> float:
        """Sweep once; returns in how many seconds to sweep again."""
        longest = self._io.settings.sweep_seconds
        if self._io.publisher.behind:
            # Who can't be knocked for now keeps its place; jobs whose worker is lost wait for the broker as well.
            return longest
        try:
            due = store.take_due(limit=_MOST_AT_ONCE, knock_seconds=self._io.settings.knock_seconds)
        except StoreUnavailable:
            self._reaps_from = math.inf
            raise
        self._knock(store, due.knocks)
        if not self._may_reap():
            return longest
        if any(reap_all(store, due.expired, retry_delay=self._retry_delay)):
            return _SHORTEST_SLEEP
        return longest if due.next_due_in is None else min(longest, max(_SHORTEST_SLEEP, due.next_due_in))

    def _may_reap(self) -> bool:
        # While the store was away nobody could renew a lease: when it is back, whoever lives has the time to do it.
        if self._reaps_from == math.inf:
            self._reaps_from = time.monotonic() + self._io.leases.renewed_every
        return time.monotonic() >= self._reaps_from

    def _knock(self, store: JobStore, knocks: Sequence[Knock]) -> None:
        doubtful: dict[str, list[Knock]] = {}
        for knock in knocks:
            if knock.again and knock.job.status in WAITING:
                doubtful.setdefault(knock.job.queue_name, []).append(knock)
            else:
                self._io.knock(knock)
        # A long backlog is not knocked for again and again: its messages still wait in the queue.
        for queue_name, again in doubtful.items():
            self._io.knock_if_lost(queue_name, again, pending=store.count_knocked(queue_name))

    def _retry_delay(self, expired: ClaimedJob) -> float:
        return self._retry_policy.delay(expired.job.retry_count, self._chance())
