"""F15: a job is finished by its worker and given up by the reaper at the same moment."""

from __future__ import annotations

from typing import Any

import pytest

from portico_celery.lifecycle import Lost, decide
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_store import ClaimedJob, Finish, JobStore, Lease, Transition
from tests.faults.conftest import Report
from tests.faults.racing import claim, race, two_stores, waiting_jobs
from tests.faults.sizes import TIMEOUT, size

pytestmark = pytest.mark.timeout(TIMEOUT)

BATCH = 250
BATCHES = {"sqlite": size(4, 40), "postgres": size(4, 40), "redis": size(12, 40)}
AT_ONCE = 0.000_001  # a lease that is over as soon as it is given
DONE = Transition(status=JobStatus.COMPLETED, retry_count=0, result_data={"done": True})


@pytest.fixture(params=["postgres", "redis", "sqlite"])
def shared_store(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param, request.getfixturevalue(f"{request.param}_store")


def worker_finish(claimed: ClaimedJob) -> Finish:
    return Finish(job_id=claimed.job.id, attempt=claimed.attempt, transition=DONE)


def reaper_finish(claimed: ClaimedJob) -> Finish:
    lost = decide(claimed.job, Lost(worker=claimed.worker, attempt=claimed.attempt))
    return Finish(job_id=claimed.job.id, attempt=claimed.attempt, transition=lost, expired_only=True)


def settle(store: JobStore, finish: Finish) -> bool:
    return store.finish([finish])[0] is not None


def finish_against_reap(worker: JobStore, reaper: JobStore) -> tuple[int, int, int]:
    """Race through one batch; returns how often the worker won, both did or neither, and a winner was overwritten."""
    rounds = claim(worker, waiting_jobs(worker, BATCH), lease_seconds=AT_ONCE)
    answers: list[tuple[bool, bool]] = race(
        rounds,
        lambda claimed: settle(worker, worker_finish(claimed)),
        lambda claimed: settle(reaper, reaper_finish(claimed)),
    )
    # All try once more. A worker that has won is told so again, and nobody else.
    late = worker.finish([*map(worker_finish, rounds)])
    overwritten = sum(job is not None for job in reaper.finish([*map(reaper_finish, rounds)]))
    for claimed, again, (finished, _reaped) in zip(rounds, late, answers, strict=True):
        overwritten += (again is not None) is not finished
        record = worker.get(claimed.job.id)
        assert record is not None
        stands = record.job.status is (JobStatus.COMPLETED if finished else JobStatus.RETRYING)
        overwritten += not stands or (record.result_data == DONE.result_data) is not finished
    return sum(won for won, _ in answers), sum(one is other for one, other in answers), overwritten


def test_of_a_worker_that_finishes_and_a_reaper_that_gives_up_one_wins_for_good(
    shared_store: tuple[str, str], report: Report
) -> None:
    name, url = shared_store
    with two_stores(url) as (worker, reaper):
        batches = [finish_against_reap(worker, reaper) for _ in range(BATCHES[name])]
    finished, undecided, overwritten = (sum(figures) for figures in zip(*batches, strict=True))
    rounds = BATCH * BATCHES[name]
    report("F15", store=name, rounds=rounds, finish_won=finished, undecided=undecided, overwritten=overwritten)
    assert undecided == 0
    assert overwritten == 0
    assert 0 < finished < rounds, "this was no race"


def test_a_lease_that_is_renewed_at_the_last_moment_is_not_given_up(
    shared_store: tuple[str, str], report: Report
) -> None:
    name, url = shared_store
    contradictions = renewed = 0
    with two_stores(url) as (worker, reaper):
        rounds = claim(worker, waiting_jobs(worker, BATCH), lease_seconds=AT_ONCE)
        answers: list[tuple[Any, Any]] = race(
            rounds,
            lambda claimed: worker.extend([Lease(job_id=claimed.job.id, attempt=claimed.attempt)], lease_seconds=60.0)[
                0
            ],
            lambda claimed: settle(reaper, reaper_finish(claimed)),
        )
    for kept, reaped in answers:
        contradictions += kept is reaped
        renewed += kept
    report("F15", store=name, rounds=BATCH, renewal_won=renewed, undecided=contradictions)
    assert contradictions == 0
