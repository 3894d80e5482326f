"""The kill storm: jobs are created all the while, and whole workers killed and started again."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any

from tests.faults.sizes import size
from tests.faults.system import System
from tests.faults.workers import Worker
from tests.waiting import eventually

KILLS = size(4, 36)
KILL_EVERY = 2.0
#: As many as the workers can do on two cores, or less.
JOBS_PER_SECOND = size(20, 150)
JOB_SECONDS = size(0.1, 0.01)
#: Long enough to be in the middle of, also for a machine that takes its time to kill.
AIMED_AT_SECONDS = 0.5
CONCURRENCY = 2
#: How many runs can have been under way when a worker was killed.
BOUND = KILLS * CONCURRENCY
DRAIN_SECONDS = size(40.0, 240.0)


def storm(system: System, chances: random.Random, options: Mapping[str, Any]) -> None:
    """Run two workers through the storm, then let them finish; ``options`` are those of the jobs."""
    pair = [system.workers.start(concurrency=CONCURRENCY, ready=False) for _ in range(2)]
    for worker in pair:
        worker.wait_until_ready()
    for kill in range(KILLS):
        until = time.monotonic() + KILL_EVERY * chances.uniform(0.6, 1.4)
        _create_until(system, until, options)
        _aim(system, pair[kill % 2], options)
        system.workers.kill(pair[kill % 2])
        pair[kill % 2] = system.workers.start(concurrency=CONCURRENCY, ready=False)
    system.wait_until_all_ended(DRAIN_SECONDS)


def _aim(system: System, worker: Worker, options: Mapping[str, Any]) -> None:
    """Return when the worker is in the middle of a job: a kill that hits nobody proves nothing."""
    system.create_all([{"payload": {"seconds": AIMED_AT_SECONDS}, **options}] * 4)

    def is_busy() -> bool:
        ended = {(line.job_id, line.attempt) for line in system.ledger.ends}
        pids = set(worker.children)
        return any(line.pid in pids and (line.job_id, line.attempt) not in ended for line in system.ledger.starts)

    # Where the others have done all the work meanwhile, this one is killed at rest.
    until = time.monotonic() + 5.0
    eventually(lambda: is_busy() or time.monotonic() > until)


def _create_until(system: System, until: float, options: Mapping[str, Any]) -> None:
    pause = 0.1
    batch = [{"payload": {"seconds": JOB_SECONDS}, **options}] * int(JOBS_PER_SECOND * pause)
    while (began := time.monotonic()) < until:
        system.create_all(batch)
        eventually(lambda began=began: time.monotonic() >= began + pause)  # type: ignore[misc]
