"""F16: jobs are cancelled at the very moment at which workers claim them."""

from __future__ import annotations

import random
from pathlib import Path
from uuid import UUID

import pytest

from portico_celery.lifecycle import CANCELLED_MESSAGE
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_store import Claim, Finish, Transition
from tests.faults.conftest import Report
from tests.faults.racing import claim, race, two_stores, waiting_jobs
from tests.faults.sizes import TIMEOUT, chances, size
from tests.faults.system import System, a_system
from tests.faults.verdict import judge
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(TIMEOUT)

JOBS = size(300, 5_000)
BATCH = 50
ROUNDS = 500


def cancel_while_workers_claim(system: System, chance: random.Random) -> set[str]:
    """Create jobs in batches, and cancel each batch while it is being taken up; returns who was cancelled."""
    cancelled: set[str] = set()
    for _ in range(JOBS // BATCH):
        before = len(system.ledger.starts)
        batch: list[UUID] = system.create_all([{}] * BATCH)
        eventually(lambda before=before: len(system.ledger.starts) > before, 20, system.shown)  # type: ignore[misc]
        chance.shuffle(batch)
        cancelled |= {str(job_id) for job_id in batch if system.portico.sync.cancel_job(job_id)}
    return cancelled


def test_a_job_is_either_cancelled_or_run(broker_url: str, redis_store: str, tmp_path: Path, report: Report) -> None:
    with a_system(broker_url, redis_store, tmp_path) as system:
        system.workers.start("prefork", 2)
        cancelled = cancel_while_workers_claim(system, chances("F16"))
        system.wait_until_all_ended(30)
        verdict = judge(system, ends={JobStatus.COMPLETED, JobStatus.FAILED})
        jobs, started = system.jobs(), set(system.ledger.start_counts())
    as_cancelled = {job_id for job_id, job in jobs.items() if job.error_message == CANCELLED_MESSAGE}
    figures = {"cancel_won": len(cancelled), "started": len(started), "both": len(cancelled & started)}
    report("F16", jobs=JOBS, **figures, lost=verdict.lost, unexpected=verdict.unexpected)
    assert cancelled & started == set()
    assert cancelled | started == set(jobs)
    assert as_cancelled == cancelled
    assert (verdict.acked, verdict.lost, verdict.unexpected, verdict.dup_exec) == (JOBS, 0, 0, 0)
    assert cancelled, "this was no race"
    assert started, "this was no race"


@pytest.mark.parametrize("name", ["postgres", "redis", "sqlite"])
def test_of_a_claim_and_a_cancel_at_the_same_moment_one_wins(
    name: str, request: pytest.FixtureRequest, report: Report
) -> None:
    url: str = request.getfixturevalue(f"{name}_store")
    with two_stores(url) as (worker, client):
        rounds = waiting_jobs(client, ROUNDS)
        answers: list[tuple[bool, bool]] = race(
            rounds,
            lambda job: worker.claim([Claim(job_id=job.id, worker="racer", lease_seconds=60.0)])[0] is not None,
            lambda job: client.cancel(job.id),
        )
        stands = [
            record is not None and record.job.status is (JobStatus.RUNNING if claimed else JobStatus.FAILED)
            for record, (claimed, _) in zip((client.get(job.id) for job in rounds), answers, strict=True)
        ]
    claim_won, both = sum(claimed for claimed, _ in answers), sum(map(all, answers))
    report("F16", store=name, rounds=ROUNDS, claim_won=claim_won, both=both, neither=sum(not any(a) for a in answers))
    assert all(one is not other for one, other in answers)
    assert all(stands)
    assert 0 < claim_won < ROUNDS, "this was no race"


@pytest.mark.parametrize("name", ["postgres", "redis", "sqlite"])
def test_of_a_finish_and_a_cancel_of_the_running_job_one_wins(
    name: str, request: pytest.FixtureRequest, report: Report
) -> None:
    url: str = request.getfixturevalue(f"{name}_store")
    done = Transition(status=JobStatus.COMPLETED, retry_count=0)
    with two_stores(url) as (worker, client):
        rounds = claim(worker, waiting_jobs(client, ROUNDS), lease_seconds=60.0)
        finishes = {held.job.id: Finish(job_id=held.job.id, attempt=held.attempt, transition=done) for held in rounds}
        # A cancel is quicker made than a finish: half of them come after a look at the job.
        hasty = {held.job.id for held in rounds[::2]}
        answers: list[tuple[bool, bool]] = race(
            rounds,
            lambda held: worker.finish([finishes[held.job.id]])[0] is not None,
            lambda held: (
                (held.job.id in hasty or client.holder(held.job.id) is not None)
                and client.cancel(held.job.id, running=True)
            ),
        )
        # Whoever was too late tries once more.
        late = [
            client.cancel(held.job.id, running=True) if finished else worker.finish([finishes[held.job.id]])[0]
            for held, (finished, _) in zip(rounds, answers, strict=True)
        ]
        records = [client.get(held.job.id) for held in rounds]
    finish_won, both = sum(finished for finished, _ in answers), sum(map(all, answers))
    report("F16", store=name, rounds=ROUNDS, finish_won=finish_won, both=both, overwritten=sum(map(bool, late)))
    assert all(one is not other for one, other in answers)
    assert not any(late)
    for record, (finished, _) in zip(records, answers, strict=True):
        assert record is not None
        assert record.job.status is (JobStatus.COMPLETED if finished else JobStatus.FAILED)
        assert [attempt.error for attempt in record.attempts] == [None if finished else CANCELLED_MESSAGE]
    assert 0 < finish_won < ROUNDS, "this was no race"


@pytest.mark.parametrize("name", ["postgres", "redis", "sqlite"])
def test_a_cancel_that_takes_running_jobs_too_meets_a_job_at_the_moment_at_which_it_starts(
    name: str, request: pytest.FixtureRequest, report: Report
) -> None:
    url: str = request.getfixturevalue(f"{name}_store")
    with two_stores(url) as (worker, client):
        rounds = waiting_jobs(client, ROUNDS)
        answers: list[tuple[bool, bool]] = race(
            rounds,
            lambda job: worker.claim([Claim(job_id=job.id, worker="racer", lease_seconds=60.0)])[0] is not None,
            lambda job: client.cancel(job.id, running=True),
        )
        records = [client.get(job.id) for job in rounds]
    started = sum(claimed for claimed, _ in answers)
    report("F16", store=name, rounds=ROUNDS, claimed_first=started, cancelled=sum(won for _, won in answers))
    assert all(cancelled for _, cancelled in answers)
    for record, (claimed, _) in zip(records, answers, strict=True):
        assert record is not None
        assert (record.job.status, record.job.error_message) == (JobStatus.FAILED, CANCELLED_MESSAGE)
        assert len(record.attempts) == claimed
    assert 0 < started < ROUNDS, "this was no race"
