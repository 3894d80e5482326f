"""Whatever is done to them, in whatever order, all stores give the answers of the memory store.

The memory store decides by the pure functions of ``portico_celery.lifecycle``; the others say the same in another
language. Contract tests take one step at a time; here Hypothesis looks for a series of steps on which they part.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import JobFilter
from portico_celery.ports.job_store import Claim, Finish, Lease, Transition
from tests.contracts.stores import KNOCK, LEASE, STORES, StoreUnderTest

# All waits are multiples of this, and the real time that a test takes is far below it.
TICK = 10


@dataclass(frozen=True)
class Step:
    """One call, of one of few jobs."""

    do: str
    job: int
    attempt: int
    ticks: int
    status: JobStatus
    worker_lost: bool


steps = st.lists(
    st.builds(
        Step,
        do=st.sampled_from(
            ["insert", "insert", "claim", "claim", "adopt", "finish", "finish", "reap", "extend", "settle", "advance"]
            + ["sweep", "cancel", "requeue", "discard"]
        ),
        job=st.integers(0, 2),
        attempt=st.integers(1, 3),
        ticks=st.sampled_from([0, 1, 5, 500]),
        status=st.sampled_from([*JobStatus][3:]),
        worker_lost=st.booleans(),
    ),
    min_size=5,
    max_size=25,
)


def job_of(step: Step, moment: datetime) -> Job:
    scheduled_at = moment + timedelta(seconds=step.ticks * TICK) if step.worker_lost else None
    return Job(
        id=UUID(int=step.job),
        queue_name="default",
        job_type="email.send",
        payload={"n": step.attempt},
        max_retries=step.attempt,
        scheduled_at=scheduled_at,
    )


def finish_of(step: Step, *, expired_only: bool) -> Finish:
    transition = Transition(
        status=step.status,
        retry_count=step.attempt,
        delay=float(step.ticks * TICK),
        result_data={"n": step.ticks},
        error_message=None if step.status is JobStatus.COMPLETED else f"error {step.ticks}",
        worker_lost=step.worker_lost and step.status in (JobStatus.RETRYING, JobStatus.DEAD_LETTER),
    )
    return Finish(job_id=UUID(int=step.job), attempt=step.attempt, transition=transition, expired_only=expired_only)


def perform(jobs: StoreUnderTest, step: Step, moment: datetime) -> Any:
    """Do the step; the store's answer."""
    store, job_id = jobs.store, UUID(int=step.job)
    lease = Lease(job_id=job_id, attempt=step.attempt)
    claim = Claim(job_id=job_id, worker=f"worker-{step.ticks}", lease_seconds=LEASE)
    match step.do:
        case "insert":
            return store.insert([job_of(step, moment)], knock_seconds=KNOCK)
        case "claim":
            return store.claim([claim])
        case "adopt":
            adopt = replace(job_of(step, moment), scheduled_at=None)
            return store.claim([replace(claim, adopt=adopt, envelope={"n": step.ticks})])
        case "finish" | "reap":
            return store.finish([finish_of(step, expired_only=step.do == "reap")])
        case "extend":
            return store.extend([lease], lease_seconds=LEASE)
        case "settle":
            return store.settle_loss(lease)
        case "advance":
            return jobs.advance(step.ticks * TICK)
        case "sweep":
            found = store.take_due(limit=100, knock_seconds=KNOCK)
            return (
                sorted(found.knocks, key=lambda knock: knock.job.id),
                sorted(found.expired, key=lambda claimed: claimed.job.id),
                found.next_due_in,
            )
        case "requeue":
            return store.requeue(job_id, knock_seconds=KNOCK)
        case change:
            return getattr(store, change)(job_id)


def state(jobs: StoreUnderTest) -> Any:
    """All that a store tells of its jobs."""
    listed = sorted(jobs.store.list_jobs(JobFilter()).jobs, key=lambda job: job.id)
    records = [jobs.store.get(job.id) for job in listed]
    holders = [jobs.store.holder(job.id) for job in listed]
    return listed, records, holders, jobs.store.stats("default")


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


def agree(stores: Sequence[StoreUnderTest], taken: Sequence[Step]) -> None:
    start = stores[0].now()
    for step in taken:
        moment = stores[0].now()
        expected, answer = (in_ticks(perform(jobs, step, moment), start) for jobs in stores)
        assert answer == expected, f"the answer to {step}"
        expected, found = (in_ticks(state(jobs), start) for jobs in stores)
        assert found == expected, f"the jobs after {step}"


@pytest.mark.parametrize("name", [name for name in STORES if name != "memory"])
@settings(max_examples=60, deadline=None)
@given(taken=steps)
def test_a_store_agrees_with_the_memory_store(name: str, taken: list[Step]) -> None:
    with TemporaryDirectory() as directory, ExitStack() as stack:
        agree([stack.enter_context(STORES[store](Path(directory))) for store in ("memory", name)], taken)
