"""Whatever is done to them, in whatever order, all stores give the answers of the memory store.

The memory store decides by the pure functions of ``portico_celery.lifecycle``; the others say the same in another
language. The contract takes one step at a time; here long random walks look for a series of steps on which they part.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest

from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import JobFilter
from portico_celery.ports.job_store import Claim, Finish, Lease, Transition
from tests.contracts.stores import SERVERS, STORES, StoreUnderTest

# All waits are multiples of this, and the real time that passes between two stores' answers is far below it.
TICK = 100
JOBS = 3
STEPS = 350
CALLS = {
    "insert": 3,
    "claim": 6,
    "adopt": 1,
    "finish": 4,
    "reap": 2,
    "extend": 1,
    "settle": 1,
    "advance": 4,
    "sweep": 4,
    "cancel": 1,
    "requeue": 2,
    "discard": 1,
}
ENDS = [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.RETRYING, JobStatus.DEAD_LETTER]


@dataclass(frozen=True)
class Step:
    """One call, of one of few jobs. ``stale`` is how far it lags behind the attempt that holds the job."""

    call: str
    job: int
    stale: int
    ticks: int
    status: JobStatus
    flag: bool

    @property
    def job_id(self) -> UUID:
        return UUID(int=self.job)

    def new_job(self, moment: datetime) -> Job:
        return Job(
            id=self.job_id,
            queue_name="default",
            job_type="email.send",
            payload={"n": self.ticks},
            scheduled_at=moment + timedelta(seconds=self.ticks * TICK) if self.flag else None,
        )

    def finish(self, attempt: int) -> Finish:
        transition = Transition(
            status=self.status,
            retry_count=attempt,
            delay=float(self.ticks * TICK),
            result_data={"n": self.ticks},
            error_message=None if self.status is JobStatus.COMPLETED else f"error {self.ticks}",
            worker_lost=self.flag and self.status in (JobStatus.RETRYING, JobStatus.DEAD_LETTER),
        )
        return Finish(job_id=self.job_id, attempt=attempt, transition=transition, expired_only=self.call == "reap")


def random_step(chance: Random) -> Step:
    return Step(
        call=chance.choices(list(CALLS), list(CALLS.values()))[0],
        job=chance.randrange(JOBS),
        stale=chance.choice([0, 0, 0, 1]),
        ticks=chance.choice([0, 0, 1, 5, 50]),
        status=chance.choice(ENDS),
        flag=chance.choice([True, False]),
    )


def perform(jobs: StoreUnderTest, step: Step, attempt: int, moment: datetime) -> Any:
    """Do the step; the store's answer."""
    store, job_id = jobs.store, step.job_id
    claim = Claim(job_id=job_id, worker=f"worker-{step.ticks}", lease_seconds=TICK)
    match step.call:
        case "insert":
            return store.insert([step.new_job(moment)], knock_seconds=TICK)
        case "claim":
            return store.claim([claim])[0]
        case "adopt":
            adopt = replace(step.new_job(moment), scheduled_at=None)
            return store.claim([replace(claim, adopt=adopt, envelope={"n": step.ticks})])[0]
        case "finish" | "reap":
            return store.finish([step.finish(attempt)])
        case "extend":
            return store.extend([Lease(job_id=job_id, attempt=attempt)], lease_seconds=TICK)
        case "settle":
            return store.settle_loss(Lease(job_id=job_id, attempt=attempt))
        case "advance":
            return jobs.advance(step.ticks * TICK)
        case "sweep":
            found = store.take_due(limit=100, knock_seconds=TICK)
            return (
                sorted(found.knocks, key=lambda knock: knock.job.id),
                sorted(found.expired, key=lambda claimed: claimed.job.id),
                found.next_due_in,
            )
        case "requeue":
            return store.requeue(job_id, knock_seconds=TICK)
        case change:
            return getattr(store, change)(job_id)


def state(jobs: StoreUnderTest, job_id: UUID) -> Any:
    """All that a store tells of a job, and of all jobs."""
    listed = sorted(jobs.store.list_jobs(JobFilter()).jobs, key=lambda job: job.id)
    return jobs.store.get(job_id), jobs.store.holder(job_id), listed, jobs.store.stats("default")


def in_ticks(value: Any, start: datetime) -> Any:
    """The value with all times as whole ticks since the start, so that two stores' answers can be compared."""
    if isinstance(value, datetime):
        return round((value - start).total_seconds() / TICK)
    if isinstance(value, float):
        return round(value / TICK)
    if isinstance(value, dict):
        return {key: in_ticks(item, start) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [in_ticks(item, start) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return in_ticks(asdict(value), start)
    return value


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", [name for name in STORES if name != "memory"])
def test_a_store_gives_the_answers_of_the_memory_store(
    name: str, seed: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    chance = Random(seed)  # noqa: S311 (nothing here is secret)
    attempts = [0] * JOBS
    walk: list[Step] = []
    with ExitStack() as stack:
        places = {"memory": tmp_path, name: request.getfixturevalue(SERVERS.get(name, "tmp_path"))}
        stores = [stack.enter_context(STORES[store](place)) for store, place in places.items()]
        for _ in range(STEPS):
            step = random_step(chance)
            walk = [*walk[-15:], step]
            start = stores[0].now()
            attempt = attempts[step.job] - step.stale
            expected, answer = (in_ticks(perform(jobs, step, attempt, start), start) for jobs in stores)
            assert answer == expected, walk
            if step.call in ("claim", "adopt") and expected is not None:
                attempts[step.job] = expected["attempt"]
            expected, found = (in_ticks(state(jobs, step.job_id), start) for jobs in stores)
            assert found == expected, walk
