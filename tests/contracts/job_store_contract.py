"""What every job store promises, whatever it keeps the jobs in.

A test class takes the contract over by inheriting from JobStoreContract, and gives a fixture ``jobs``, a
StoreUnderTest. Where an answer can be computed, it is compared with that of ``portico_celery.lifecycle``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest

from portico_celery import lifecycle
from portico_celery.exceptions import ValidationError
from portico_celery.lifecycle import Failed, Succeeded
from portico_celery.ports.job import Job, JobStatus, QueueStats
from portico_celery.ports.job_reader import Attempt, JobFilter
from portico_celery.ports.job_store import Claim, ClaimedJob, Finish, Lease, Postponement, Transition
from tests.contracts.stores import KNOCK, LEASE, StoreUnderTest, a_job

BACKOFF = 60.0
HOUR = 3_600.0

ENDED = [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.DEAD_LETTER]
NOT_ENDED = [status for status in JobStatus if status not in ENDED]
WAITING = [JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.RETRYING]
NOT_WAITING = [status for status in JobStatus if status not in WAITING]
AFTER_RUNNING = [*ENDED, JobStatus.RETRYING]


def transition_to(status: JobStatus, job: Job, *, delay: float = BACKOFF) -> Transition:
    """What the lifecycle decides where the job's attempt ends so that it goes to ``status``."""
    error = ConnectionError("the mail server hung up")
    transition = {
        JobStatus.COMPLETED: lambda: lifecycle.decide(job, Succeeded(result_data={"sent": True})),
        JobStatus.FAILED: lambda: lifecycle.decide(
            job, Failed(error=error, retryable=False, result_data={"code": 550}, traceback="Traceback: final")
        ),
        JobStatus.RETRYING: lambda: lifecycle.decide(
            job, Failed(error=error, traceback="Traceback: again"), retry_delay=delay
        ),
        JobStatus.DEAD_LETTER: lambda: lifecycle.decide(
            replace(job, retry_count=job.max_retries), Failed(error=error, traceback="Traceback: spent")
        ),
    }[status]()
    assert transition.status is status
    return transition


def brought_to(jobs: StoreUnderTest, status: JobStatus, job: Job | None = None) -> Job:
    """Store a job and lead it to ``status``; as it is stored then."""
    job = job or a_job()
    if status is JobStatus.SCHEDULED:
        job = replace(job, scheduled_at=jobs.now() + timedelta(hours=1))
    jobs.insert(job)
    if status not in (JobStatus.PENDING, JobStatus.SCHEDULED):
        claimed = jobs.claim(job.id)
        assert claimed is not None
        if status is not JobStatus.RUNNING:
            jobs.finish(claimed, transition_to(status, claimed.job))
    stored = jobs.job(job.id)
    assert stored.status is status
    return stored


def dead_by_loss(jobs: StoreUnderTest) -> ClaimedJob:
    """Store a job that may start only once, and lose its worker; the attempt that was lost."""
    claimed = jobs.take(a_job(max_retries=0))
    assert jobs.lose(claimed).status is JobStatus.DEAD_LETTER
    return claimed


def lease_of(claimed: ClaimedJob) -> Lease:
    return Lease(job_id=claimed.job.id, attempt=claimed.attempt)


def postponement_of(job: Job, *, patience: float = HOUR, job_type: str | None = None) -> Postponement:
    return Postponement(job_id=job.id, job_type=job_type or job.job_type, worker="worker-9", patience=patience)


def postponed(jobs: StoreUnderTest, job: Job, *, patience: float = HOUR) -> Job | None:
    """Have a worker that has no handler for it meet the job; as it is then, or None where nothing came of it."""
    return jobs.store.postpone([postponement_of(job, patience=patience)])[0]


def patience_is_over(jobs: StoreUnderTest, job: Job, patience: float) -> bool:
    """Whether the next worker without a handler gives the job up."""
    stored = postponed(jobs, job, patience=patience)
    assert stored is not None, "it may not start yet"
    return stored.status is JobStatus.DEAD_LETTER


def at(moment: datetime | None) -> datetime:
    assert moment is not None
    return moment


class Inserting:
    def test_a_new_job_is_pending_and_has_the_time_of_its_creation(self, jobs: StoreUnderTest) -> None:
        job = a_job()
        [(stored, created)] = jobs.store.insert([job], knock_seconds=KNOCK)
        assert created
        assert jobs.is_now(stored.created_at)
        assert stored == lifecycle.enqueued(job, at(stored.created_at)) == jobs.job(job.id)
        assert stored.status is JobStatus.PENDING

    def test_a_job_whose_time_is_ahead_is_scheduled(self, jobs: StoreUnderTest) -> None:
        job = a_job(scheduled_at=jobs.now() + timedelta(hours=1))
        [stored] = jobs.insert(job)
        assert stored == lifecycle.enqueued(job, at(stored.created_at)) == jobs.job(job.id)
        assert stored.status is JobStatus.SCHEDULED

    def test_a_job_whose_time_has_passed_is_pending(self, jobs: StoreUnderTest) -> None:
        job = a_job(scheduled_at=jobs.now() - timedelta(hours=1))
        [stored] = jobs.insert(job)
        assert stored == lifecycle.enqueued(job, at(stored.created_at)) == jobs.job(job.id)
        assert stored.status is JobStatus.PENDING

    def test_every_field_comes_back_as_it_went_in(self, jobs: StoreUnderTest) -> None:
        job = Job(
            id=uuid4(),
            queue_name="números",
            job_type="a.b-c.d_e",
            payload={"text": "Grüße\n\x00 \U0001f680 \ud800", "deep": [1, 2.5, None, True, {"x": []}], "": {}},
            priority=-7,
            max_retries=0,
            scheduled_at=(jobs.now() + timedelta(hours=1)).replace(microsecond=123_457),
            created_by=uuid4(),
            metadata={"trace": {"id": "0af7"}},
        )
        [stored] = jobs.insert(job)
        assert stored == lifecycle.enqueued(job, at(stored.created_at)) == jobs.job(job.id)
        assert stored.scheduled_at is not None
        assert stored.scheduled_at.utcoffset() == timedelta(0)

    def test_a_new_job_enters_clean_whatever_its_copy_has_been_through(self, jobs: StoreUnderTest) -> None:
        moment = jobs.now() - timedelta(days=1)
        job = replace(
            a_job(),
            status=JobStatus.FAILED,
            error_message="it failed elsewhere",
            started_at=moment,
            failed_at=moment,
            completed_at=moment,
            created_at=moment,
        )
        [stored] = jobs.insert(job)
        assert stored == lifecycle.enqueued(job, at(stored.created_at)) == jobs.job(job.id)
        assert (stored.status, stored.error_message, stored.started_at) == (JobStatus.PENDING, None, None)
        assert jobs.claim(job.id) is not None

    def test_a_job_inserted_again_changes_nothing(self, jobs: StoreUnderTest) -> None:
        job = a_job()
        [stored] = jobs.insert(job)
        again = replace(job, payload={"another": "payload"}, priority=9)
        assert jobs.store.insert([again], knock_seconds=KNOCK) == [(stored, False)]
        assert jobs.job(job.id) == stored

    @pytest.mark.parametrize("status", list(JobStatus))
    def test_a_job_inserted_again_stays_in_its_state(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        job = brought_to(jobs, status)
        again = replace(job, status=JobStatus.PENDING)
        assert jobs.store.insert([again], knock_seconds=KNOCK) == [(job, False)]
        assert jobs.job(job.id) == job

    def test_an_id_that_comes_twice_in_one_batch_is_stored_once(self, jobs: StoreUnderTest) -> None:
        first, other = a_job(), a_job()
        second = replace(first, payload={"another": "payload"})
        answers = jobs.store.insert([first, other, second], knock_seconds=KNOCK)
        assert [created for _job, created in answers] == [True, True, False]
        assert [job.payload for job, _created in answers] == [first.payload, other.payload, first.payload]
        assert jobs.store.stats("default").pending_count == 2

    def test_known_and_new_jobs_of_one_batch_are_told_apart_in_order(self, jobs: StoreUnderTest) -> None:
        known = jobs.insert(a_job(), a_job())
        new = [a_job(), a_job()]
        batch = [new[0], known[0], new[1], known[1]]
        answers = jobs.store.insert(batch, knock_seconds=KNOCK)
        assert [(job.id, created) for job, created in answers] == [
            (new[0].id, True),
            (known[0].id, False),
            (new[1].id, True),
            (known[1].id, False),
        ]

    def test_a_batch_that_can_not_be_stored_whole_is_not_stored_at_all(self, jobs: StoreUnderTest) -> None:
        good = a_job()
        bad = replace(a_job(), payload={"stream": object()})
        with pytest.raises((TypeError, ValidationError)):
            jobs.insert(good, bad)
        assert jobs.store.get(good.id) is None
        assert jobs.store.stats("default").pending_count == 0

    def test_an_empty_batch_is_no_work(self, jobs: StoreUnderTest) -> None:
        assert jobs.store.insert([], knock_seconds=KNOCK) == []
        assert jobs.store.claim([]) == []
        assert jobs.store.finish([]) == []
        assert jobs.store.postpone([]) == []
        assert jobs.store.extend([], lease_seconds=LEASE) == []

    def test_a_batch_may_be_large(self, jobs: StoreUnderTest) -> None:
        batch = [replace(a_job(), priority=number) for number in range(2_500)]
        for created in (True, False):
            answers = jobs.store.insert(batch, knock_seconds=KNOCK)
            assert [job.id for job, _created in answers] == [job.id for job in batch]
            assert {flag for _job, flag in answers} == {created}
        assert jobs.store.stats("default").pending_count == 2_500

    def test_what_a_caller_does_to_its_copy_does_not_reach_the_store(self, jobs: StoreUnderTest) -> None:
        job = a_job()
        given = dict(job.payload)
        [stored] = jobs.insert(job)
        claimed = jobs.claim(job.id)
        assert claimed is not None
        for copy in (job, stored, claimed.job, jobs.job(job.id), *jobs.store.list_jobs(JobFilter()).jobs):
            copy.payload["scribbled"] = "on"
            copy.metadata["scribbled"] = "on"
        assert jobs.job(job.id).payload == given
        assert jobs.job(job.id).metadata == {}


class Claiming:
    def test_a_claimed_job_runs_under_its_first_attempt(self, jobs: StoreUnderTest) -> None:
        [job] = jobs.insert(a_job())
        claimed = jobs.claim(job.id, "worker-7")
        assert claimed is not None
        assert jobs.is_now(claimed.job.started_at)
        assert claimed == ClaimedJob(
            job=lifecycle.started(job, at(claimed.job.started_at)), attempt=1, worker="worker-7"
        )
        assert jobs.job(job.id) == claimed.job

    def test_an_unknown_job_is_not_claimed(self, jobs: StoreUnderTest) -> None:
        assert jobs.claim(uuid4()) is None

    def test_a_scheduled_job_is_not_claimed_before_its_time(self, jobs: StoreUnderTest) -> None:
        job = brought_to(jobs, JobStatus.SCHEDULED)
        jobs.advance(HOUR / 2)
        assert jobs.claim(job.id) is None
        assert jobs.job(job.id) == job

    def test_a_scheduled_job_is_claimed_at_its_time_without_waiting_for_the_sweep(self, jobs: StoreUnderTest) -> None:
        job = brought_to(jobs, JobStatus.SCHEDULED)
        jobs.advance(HOUR * 1.5)
        claimed = jobs.claim(job.id)
        assert claimed is not None
        assert claimed.job == lifecycle.started(job, at(claimed.job.started_at))

    def test_a_retrying_job_is_claimed_after_its_backoff_and_not_before(self, jobs: StoreUnderTest) -> None:
        job = brought_to(jobs, JobStatus.RETRYING)
        jobs.advance(BACKOFF / 2)
        assert jobs.claim(job.id) is None
        jobs.advance(BACKOFF)
        claimed = jobs.claim(job.id, "worker-2")
        assert claimed is not None
        assert (claimed.attempt, claimed.worker, claimed.lost_error) == (2, "worker-2", None)
        assert claimed.job == lifecycle.started(job, at(claimed.job.started_at))
        assert jobs.is_now(claimed.job.started_at)

    def test_a_retry_without_delay_is_claimed_at_once(self, jobs: StoreUnderTest) -> None:
        claimed = jobs.take(a_job())
        jobs.finish(claimed, transition_to(JobStatus.RETRYING, claimed.job, delay=0.0))
        assert jobs.claim(claimed.job.id) is not None

    @pytest.mark.parametrize("status", NOT_WAITING)
    def test_a_job_that_does_not_wait_is_not_claimed(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        job = brought_to(jobs, status)
        jobs.advance(HOUR)
        assert jobs.claim(job.id) is None
        assert jobs.job(job.id) == job

    def test_a_claim_that_can_not_be_stored_leaves_those_beside_it_free(self, jobs: StoreUnderTest) -> None:
        [good] = jobs.insert(a_job())
        bad = replace(a_job(), payload={"when": object()})
        claims = [
            Claim(job_id=good.id, worker="one", lease_seconds=LEASE),
            Claim(job_id=bad.id, worker="one", lease_seconds=LEASE, adopt=bad),
        ]
        with pytest.raises((TypeError, ValueError)):
            jobs.store.claim(claims)
        assert jobs.claim(good.id) is not None

    def test_of_two_claims_one_wins(self, jobs: StoreUnderTest) -> None:
        [job] = jobs.insert(a_job())
        first, second = jobs.store.claim(
            [Claim(job_id=job.id, worker=worker, lease_seconds=LEASE) for worker in ("one", "two")]
        )
        assert first is not None
        assert (first.worker, first.attempt) == ("one", 1)
        assert second is None
        assert jobs.claim(job.id, "three") is None

    def test_claims_are_answered_in_their_order(self, jobs: StoreUnderTest) -> None:
        free, taken, unknown, other = a_job(), a_job(), a_job(), a_job()
        jobs.insert(free, taken, other)
        jobs.claim(taken.id)
        answers = jobs.store.claim(
            [Claim(job_id=job.id, worker="worker-1", lease_seconds=LEASE) for job in (other, taken, unknown, free)]
        )
        found = [None if claimed is None else claimed.job.id for claimed in answers]
        assert found == [other.id, None, None, free.id]

    def test_an_unknown_job_is_adopted_as_taken(self, jobs: StoreUnderTest) -> None:
        job = a_job()
        envelope: dict[str, Any] = {"root_id": "5f2c", "chord": None, "embed": {"callbacks": []}}
        [claimed] = jobs.store.claim(
            [Claim(job_id=job.id, worker="worker-1", lease_seconds=LEASE, adopt=job, envelope=envelope)]
        )
        assert claimed is not None
        assert jobs.is_now(claimed.job.created_at)
        entered = lifecycle.enqueued(job, at(claimed.job.created_at))
        assert claimed == ClaimedJob(
            job=lifecycle.started(entered, at(claimed.job.started_at)),
            attempt=1,
            worker="worker-1",
            envelope=envelope,
        )
        assert jobs.store.holder(job.id) == claimed

    def test_an_unknown_job_whose_time_is_ahead_is_adopted_as_scheduled_and_not_taken(
        self, jobs: StoreUnderTest
    ) -> None:
        job = a_job(scheduled_at=jobs.now() + timedelta(hours=1))
        claim = Claim(job_id=job.id, worker="worker-1", lease_seconds=LEASE, adopt=job, envelope={"task_id": "7"})
        assert jobs.store.claim([claim]) == jobs.store.claim([claim]) == [None]
        record = jobs.store.get(job.id)
        assert record is not None
        assert record.job == lifecycle.enqueued(job, at(record.job.created_at))
        assert (record.job.status, record.attempts) == (JobStatus.SCHEDULED, ())

        jobs.advance(HOUR)

        due = jobs.store.take_due(limit=10, knock_seconds=KNOCK)
        assert [(knock.job.id, knock.envelope) for knock in due.knocks] == [(job.id, {"task_id": "7"})]
        [claimed] = jobs.store.claim([claim])
        assert claimed is not None
        assert (claimed.attempt, claimed.envelope) == (1, {"task_id": "7"})

    def test_an_adopted_job_whose_time_has_passed_is_taken(self, jobs: StoreUnderTest) -> None:
        job = a_job(scheduled_at=jobs.now() - timedelta(hours=1))
        [claimed] = jobs.store.claim([Claim(job_id=job.id, worker="worker-1", lease_seconds=LEASE, adopt=job)])
        assert claimed is not None
        assert (claimed.job.status, claimed.attempt) == (JobStatus.RUNNING, 1)

    def test_an_adopted_job_is_taken_only_once(self, jobs: StoreUnderTest) -> None:
        job = a_job()
        claim = Claim(job_id=job.id, worker="worker-1", lease_seconds=LEASE, adopt=job, envelope={})
        first, second = jobs.store.claim([claim, replace(claim, token="another")])
        assert first is not None
        assert second is None

    def test_adopting_a_job_that_waits_takes_it_as_it_is_stored(self, jobs: StoreUnderTest) -> None:
        [job] = jobs.insert(a_job())
        adopt = replace(job, payload={"another": "payload"})
        [claimed] = jobs.store.claim(
            [Claim(job_id=job.id, worker="worker-1", lease_seconds=LEASE, adopt=adopt, envelope={"id": "x"})]
        )
        assert claimed is not None
        assert claimed.job == lifecycle.started(job, at(claimed.job.started_at))
        assert claimed.envelope is None

    @pytest.mark.parametrize("status", [status for status in JobStatus if status is not JobStatus.PENDING])
    def test_adopting_a_job_that_may_not_start_changes_nothing(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        job = brought_to(jobs, status)
        claim = Claim(job_id=job.id, worker="worker-2", lease_seconds=LEASE, adopt=a_job(), envelope={})
        assert jobs.store.claim([replace(claim, adopt=replace(job, status=JobStatus.PENDING))]) == [None]
        assert jobs.job(job.id) == job

    def test_an_adopted_job_keeps_its_envelope_for_later_knocks_and_claims(self, jobs: StoreUnderTest) -> None:
        job, envelope = a_job(), {"root_id": "5f2c"}
        claim = Claim(job_id=job.id, worker="worker-1", lease_seconds=LEASE, adopt=job, envelope=envelope)
        [claimed] = jobs.store.claim([claim])
        assert claimed is not None
        jobs.finish(claimed, transition_to(JobStatus.RETRYING, claimed.job))
        jobs.advance(BACKOFF * 1.5)
        [knock] = jobs.sweep().knocks
        assert (knock.job.id, knock.envelope) == (job.id, envelope)
        again = jobs.claim(job.id)
        assert again is not None
        assert again.envelope == envelope


class RepeatingClaims:
    """What a worker does whose claim was not answered: perhaps it has the job, perhaps it has not."""

    @pytest.fixture(params=[False, True], ids=["knocked for", "adopted"])
    def claim(self, request: pytest.FixtureRequest, jobs: StoreUnderTest) -> Claim:
        job = a_job()
        if request.param:
            return Claim(job_id=job.id, worker="worker-1", lease_seconds=LEASE, adopt=job, envelope={"id": "7"})
        jobs.insert(job)
        return Claim(job_id=job.id, worker="worker-1", lease_seconds=LEASE)

    def test_a_repeated_claim_gets_the_same_answer(self, jobs: StoreUnderTest, claim: Claim) -> None:
        [claimed] = jobs.store.claim([claim])
        assert claimed is not None
        jobs.advance(5)
        for _ in range(2):
            assert jobs.store.claim([claim]) == [claimed]
        assert jobs.store.holder(claim.job_id) == claimed
        assert jobs.finish(claimed, transition_to(JobStatus.COMPLETED, claimed.job)) is not None

    def test_its_lease_begins_anew(self, jobs: StoreUnderTest, claim: Claim) -> None:
        [claimed] = jobs.store.claim([claim])
        for pause in (LEASE * 0.8, LEASE * 3):
            jobs.advance(pause)
            assert jobs.store.claim([claim]) == [claimed]
            jobs.advance(LEASE / 2)
            assert jobs.sweep().expired == ()
        jobs.advance(LEASE)
        assert jobs.sweep().expired == (claimed,)

    def test_nobody_else_gets_that_answer(self, jobs: StoreUnderTest, claim: Claim) -> None:
        [claimed] = jobs.store.claim([claim])
        other = replace(claim, token="another")
        assert jobs.store.claim([other]) == [None]
        assert jobs.store.claim([other, claim, other]) == [None, claimed, None]
        assert jobs.store.holder(claim.job_id) == claimed

    def test_a_claim_may_be_repeated_in_one_batch(self, jobs: StoreUnderTest, claim: Claim) -> None:
        first, second = jobs.store.claim([claim, claim])
        assert first is not None
        assert first == second

    def test_each_claim_has_a_token_of_its_own(self) -> None:
        first, second = (Claim(job_id=UUID(int=7), worker="worker-1", lease_seconds=LEASE) for _ in range(2))
        assert UUID(first.token) != UUID(second.token)

    @pytest.mark.parametrize("status", AFTER_RUNNING)
    def test_a_job_that_has_ended_meanwhile_is_not_claimed_again(
        self, jobs: StoreUnderTest, claim: Claim, status: JobStatus
    ) -> None:
        [claimed] = jobs.store.claim([claim])
        assert claimed is not None
        ended = jobs.finish(claimed, transition_to(status, claimed.job))
        assert jobs.store.claim([claim]) == [None]
        assert jobs.job(claim.job_id) == ended

    def test_a_job_that_was_cancelled_meanwhile_is_not_claimed_again(self, jobs: StoreUnderTest, claim: Claim) -> None:
        jobs.store.claim([claim])
        assert jobs.store.cancel(claim.job_id, running=True)
        assert jobs.store.claim([claim]) == [None]

    def test_a_later_attempt_is_not_that_of_an_earlier_token(self, jobs: StoreUnderTest, claim: Claim) -> None:
        [first] = jobs.store.claim([claim])
        assert first is not None
        jobs.lose(first)
        second = jobs.claim(claim.job_id, "worker-2")
        assert second is not None
        assert jobs.store.claim([claim]) == [None]
        assert jobs.store.holder(claim.job_id) == second

    def test_after_a_loss_the_same_claim_starts_the_next_attempt(self, jobs: StoreUnderTest, claim: Claim) -> None:
        [first] = jobs.store.claim([claim])
        assert first is not None
        jobs.lose(first)
        [second] = jobs.store.claim([claim])
        assert second is not None
        assert second.attempt == 2
        assert jobs.store.claim([claim]) == [second]


class Finishing:
    @pytest.mark.parametrize("status", AFTER_RUNNING)
    def test_a_finished_job_is_what_the_lifecycle_makes_of_it(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        claimed = jobs.take(a_job())
        jobs.advance(5)
        transition = transition_to(status, claimed.job)
        job = jobs.finish(claimed, transition)
        assert job is not None
        moment = job.completed_at or job.failed_at or jobs.now()
        assert job == lifecycle.finished(claimed.job, transition, moment) == jobs.job(job.id)
        assert job.status is status

    @pytest.mark.parametrize("status", AFTER_RUNNING)
    def test_the_end_of_a_job_has_its_time(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        claimed = jobs.take(a_job())
        jobs.advance(HOUR)
        job = jobs.finish(claimed, transition_to(status, claimed.job))
        assert job is not None
        assert jobs.is_now(job.completed_at) == (status is JobStatus.COMPLETED)
        assert jobs.is_now(job.failed_at) == (status in (JobStatus.FAILED, JobStatus.DEAD_LETTER))
        assert (job.completed_at, job.failed_at).count(None) == (2 if status is JobStatus.RETRYING else 1)
        assert job.started_at == claimed.job.started_at

    @pytest.mark.parametrize("status", AFTER_RUNNING)
    def test_result_data_is_kept_with_the_record(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        claimed = jobs.take(a_job())
        data = {"sent": True, "id": "Grüße", "parts": [1, {"n": None}]}
        jobs.finish(claimed, replace(transition_to(status, claimed.job), result_data=data))
        record = jobs.store.get(claimed.job.id)
        assert record is not None
        assert record.result_data == data

    def test_the_last_result_takes_the_place_of_the_one_before(self, jobs: StoreUnderTest) -> None:
        claimed = jobs.take(a_job())
        retry = replace(transition_to(JobStatus.RETRYING, claimed.job, delay=0.0), result_data={"page": 1})
        jobs.finish(claimed, retry)
        again = jobs.claim(claimed.job.id)
        assert again is not None
        jobs.finish(again, replace(transition_to(JobStatus.COMPLETED, again.job), result_data=None))
        record = jobs.store.get(claimed.job.id)
        assert record is not None
        assert record.result_data is None

    def test_an_attempt_finishes_only_once(self, jobs: StoreUnderTest) -> None:
        claimed = jobs.take(a_job())
        job = jobs.finish(claimed, transition_to(JobStatus.COMPLETED, claimed.job))
        assert job is not None
        assert jobs.finish(claimed, transition_to(JobStatus.FAILED, claimed.job)) is None
        record = jobs.store.get(job.id)
        assert record is not None
        assert record.job == job
        assert len(record.attempts) == 1

    @pytest.mark.parametrize("status", AFTER_RUNNING)
    def test_an_end_whose_answer_was_lost_is_told_again_and_changes_nothing(
        self, jobs: StoreUnderTest, status: JobStatus
    ) -> None:
        claimed, other = jobs.take(a_job()), jobs.take(a_job())
        transition = transition_to(status, claimed.job)
        job = jobs.finish(claimed, transition)
        jobs.advance(20)
        assert job is not None
        repeated = Finish(job_id=job.id, attempt=1, transition=transition)
        elsewhere = Finish(job_id=other.job.id, attempt=1, transition=transition)
        assert jobs.store.finish([repeated]) == [job]
        assert jobs.store.finish([repeated, elsewhere, repeated])[::2] == [job, job]
        record = jobs.store.get(job.id)
        assert record is not None
        assert record.job == job
        assert record.result_data == transition.result_data
        assert len(record.attempts) == 1
        assert jobs.sweep().expired == ()

    def test_an_end_after_an_earlier_failure_is_told_again(self, jobs: StoreUnderTest) -> None:
        first = jobs.take(a_job())
        failure = transition_to(JobStatus.RETRYING, first.job, delay=0.0)
        jobs.finish(first, failure)
        second = jobs.claim(first.job.id)
        assert second is not None
        success = transition_to(JobStatus.COMPLETED, second.job)
        ends = [
            Finish(job_id=first.job.id, attempt=1, transition=failure),
            Finish(job_id=first.job.id, attempt=2, transition=success),
        ]
        job = jobs.finish(second, success)
        assert job is not None
        assert jobs.store.finish(ends) == [None, job]

    @pytest.mark.parametrize(
        "change", [{"result_data": {"another": "result"}}, {"error_message": "another error"}, {"retry_count": 2}]
    )
    @pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.RETRYING, JobStatus.DEAD_LETTER])
    def test_another_end_of_the_same_kind_is_refused(
        self, jobs: StoreUnderTest, status: JobStatus, change: dict[str, Any]
    ) -> None:
        claimed = jobs.take(a_job())
        transition = transition_to(status, claimed.job)
        job = jobs.finish(claimed, transition)
        assert jobs.finish(claimed, replace(transition, **change)) is None
        assert jobs.job(claimed.job.id) == job

    def test_the_reapers_end_is_not_told_again(self, jobs: StoreUnderTest) -> None:
        claimed = jobs.take(a_job())
        lost = jobs.lose(claimed)
        transition = lifecycle.decide(claimed.job, lifecycle.Lost(worker="worker-1", attempt=1))
        assert jobs.finish(claimed, transition, expired_only=True) is None
        assert jobs.job(claimed.job.id) == lost

    @pytest.mark.parametrize("change", ["requeue", "discard", "cancel"])
    def test_an_end_that_no_longer_stands_is_refused(self, jobs: StoreUnderTest, change: str) -> None:
        claimed = jobs.take(a_job())
        transition = transition_to(JobStatus.RETRYING if change == "cancel" else JobStatus.FAILED, claimed.job)
        jobs.finish(claimed, transition)
        changes = {"requeue": jobs.requeue, "discard": jobs.discard, "cancel": jobs.store.cancel}
        assert changes[change](claimed.job.id)
        assert jobs.finish(claimed, transition) is None

    @pytest.mark.parametrize("attempt", [0, 1, 3])
    def test_only_the_attempt_that_holds_the_job_finishes_it(self, jobs: StoreUnderTest, attempt: int) -> None:
        first = jobs.take(a_job())
        jobs.lose(first)
        second = jobs.claim(first.job.id)
        assert second is not None
        assert second.attempt == 2
        stale = replace(second, attempt=attempt)
        assert jobs.finish(stale, transition_to(JobStatus.COMPLETED, second.job)) is None
        assert jobs.job(second.job.id) == second.job
        assert jobs.finish(second, transition_to(JobStatus.COMPLETED, second.job)) is not None

    @pytest.mark.parametrize("status", [status for status in JobStatus if status is not JobStatus.RUNNING])
    def test_only_a_running_job_is_finished(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        job = brought_to(jobs, status)
        for attempt in (0, 1):
            late = replace(transition_to(JobStatus.COMPLETED, job), result_data={"late": True})
            assert jobs.finish(ClaimedJob(job=job, attempt=attempt, worker="worker-1"), late) is None
        assert jobs.job(job.id) == job

    def test_an_unknown_job_is_not_finished(self, jobs: StoreUnderTest) -> None:
        unknown = ClaimedJob(job=a_job(), attempt=1, worker="worker-1")
        assert jobs.finish(unknown, transition_to(JobStatus.COMPLETED, unknown.job)) is None

    def test_one_stale_attempt_does_not_hinder_the_others_of_its_batch(self, jobs: StoreUnderTest) -> None:
        done, stale, failed = (jobs.take(a_job()) for _ in range(3))
        finishes = [
            Finish(job_id=claimed.job.id, attempt=attempt, transition=transition_to(status, claimed.job))
            for claimed, attempt, status in (
                (failed, 1, JobStatus.FAILED),
                (stale, 7, JobStatus.COMPLETED),
                (done, 1, JobStatus.COMPLETED),
            )
        ]
        answers = jobs.store.finish(finishes)
        assert [job and (job.id, job.status) for job in answers] == [
            (failed.job.id, JobStatus.FAILED),
            None,
            (done.job.id, JobStatus.COMPLETED),
        ]
        assert jobs.job(stale.job.id).status is JobStatus.RUNNING

    @pytest.mark.parametrize(("first", "later"), [*pairwise(AFTER_RUNNING)])
    def test_of_two_ends_of_one_attempt_in_one_batch_the_first_counts(
        self, jobs: StoreUnderTest, first: JobStatus, later: JobStatus
    ) -> None:
        claimed = jobs.take(a_job())
        transition = transition_to(first, claimed.job)
        finishes = [
            Finish(job_id=claimed.job.id, attempt=1, transition=each)
            for each in (transition, transition_to(later, claimed.job))
        ]
        job, nothing = jobs.store.finish(finishes)
        record = jobs.store.get(claimed.job.id)
        assert nothing is None
        assert record is not None
        assert record.job == job
        assert record.job.status is first
        assert [attempt.traceback for attempt in record.attempts] == [transition.traceback]

    def test_the_reapers_refused_end_does_not_hinder_the_workers_own_of_the_same_batch(
        self, jobs: StoreUnderTest
    ) -> None:
        claimed = jobs.take(a_job())
        lost = lifecycle.decide(claimed.job, lifecycle.Lost(worker="worker-1", attempt=1))
        nothing, job = jobs.store.finish(
            [
                Finish(job_id=claimed.job.id, attempt=1, transition=lost, expired_only=True),
                Finish(job_id=claimed.job.id, attempt=1, transition=transition_to(JobStatus.COMPLETED, claimed.job)),
            ]
        )
        assert nothing is None
        assert job is not None
        assert job == jobs.job(job.id)
        assert job.status is JobStatus.COMPLETED

    def test_a_batch_that_can_not_be_stored_whole_finishes_no_job(self, jobs: StoreUnderTest) -> None:
        good, bad = jobs.take(a_job()), jobs.take(a_job())
        transition = transition_to(JobStatus.COMPLETED, good.job)
        with pytest.raises((TypeError, ValidationError)):
            jobs.store.finish(
                [
                    Finish(job_id=good.job.id, attempt=1, transition=transition),
                    Finish(
                        job_id=bad.job.id,
                        attempt=1,
                        transition=replace(transition, result_data={"stream": object()}),
                    ),
                ]
            )
        assert jobs.store.stats("default").running_count == 2

    def test_the_reaper_can_not_finish_an_attempt_whose_lease_is_alive(self, jobs: StoreUnderTest) -> None:
        claimed = jobs.take(a_job())
        jobs.advance(LEASE / 2)
        lost = lifecycle.decide(claimed.job, lifecycle.Lost(worker="worker-1", attempt=1))
        assert jobs.finish(claimed, lost, expired_only=True) is None
        jobs.store.extend([lease_of(claimed)], lease_seconds=LEASE)
        jobs.advance(LEASE / 2)
        assert jobs.finish(claimed, lost, expired_only=True) is None
        assert jobs.job(claimed.job.id) == claimed.job
        jobs.advance(LEASE)
        assert jobs.finish(claimed, lost, expired_only=True) is not None

    def test_an_attempt_that_was_not_reaped_may_finish_after_its_lease(self, jobs: StoreUnderTest) -> None:
        claimed = jobs.take(a_job())
        jobs.advance(LEASE * 10)
        job = jobs.finish(claimed, transition_to(JobStatus.COMPLETED, claimed.job))
        assert job is not None
        assert job.status is JobStatus.COMPLETED

    def test_the_last_error_stays_readable_after_a_success(self, jobs: StoreUnderTest) -> None:
        first = jobs.take(a_job())
        retrying = jobs.finish(first, transition_to(JobStatus.RETRYING, first.job, delay=0.0))
        second = jobs.claim(first.job.id)
        assert retrying is not None
        assert second is not None
        done = jobs.finish(second, transition_to(JobStatus.COMPLETED, second.job))
        assert done is not None
        assert done.error_message == retrying.error_message == "ConnectionError: the mail server hung up"

    def test_the_history_tells_of_every_attempt(self, jobs: StoreUnderTest) -> None:
        first = jobs.take(a_job(), "worker-1")
        jobs.advance(7)
        failure = transition_to(JobStatus.RETRYING, first.job, delay=0.0)
        jobs.finish(first, failure)
        second = jobs.claim(first.job.id, "worker-2")
        assert second is not None
        lost = jobs.lose(second)
        third = jobs.claim(first.job.id, "worker-3")
        assert third is not None

        def history() -> list[tuple[Any, ...]]:
            record = jobs.store.get(first.job.id)
            assert record is not None
            return [
                (
                    attempt.number,
                    attempt.worker,
                    attempt.started_at,
                    attempt.ended_at is not None,
                    attempt.error,
                    attempt.traceback,
                )
                for attempt in record.attempts
            ]

        ended = [
            (1, "worker-1", first.job.started_at, True, failure.error_message, "Traceback: again"),
            (2, "worker-2", second.job.started_at, True, lost.error_message, None),
        ]
        assert history() == [*ended, (3, "worker-3", third.job.started_at, False, None, None)]
        done = jobs.finish(third, transition_to(JobStatus.COMPLETED, third.job))
        assert done is not None
        assert history() == [*ended, (3, "worker-3", third.job.started_at, True, None, None)]
        record = jobs.store.get(first.job.id)
        assert record is not None
        assert record.attempts[-1].ended_at == done.completed_at
        assert jobs.is_now(record.attempts[-1].ended_at)
        lasted = at(record.attempts[0].ended_at) - record.attempts[0].started_at
        assert timedelta(seconds=7) <= lasted < timedelta(seconds=20)

    def test_a_job_that_never_ran_has_no_history(self, jobs: StoreUnderTest) -> None:
        [job] = jobs.insert(a_job())
        record = jobs.store.get(job.id)
        assert record is not None
        assert (record.attempts, record.result_data) == ((), None)


class Leasing:
    def test_a_lease_is_extended_while_its_attempt_holds_the_job(self, jobs: StoreUnderTest) -> None:
        claimed = jobs.take(a_job())
        for _ in range(3):
            jobs.advance(LEASE / 2)
            assert jobs.store.extend([lease_of(claimed)], lease_seconds=LEASE) == [True]
            assert jobs.sweep().expired == ()
        assert jobs.job(claimed.job.id) == claimed.job

    def test_a_lease_that_ran_out_unnoticed_can_still_be_extended(self, jobs: StoreUnderTest) -> None:
        claimed = jobs.take(a_job())
        jobs.advance(LEASE * 3)
        assert jobs.store.extend([lease_of(claimed)], lease_seconds=LEASE) == [True]
        assert jobs.sweep().expired == ()

    def test_the_lease_of_an_attempt_that_ended_is_lost(self, jobs: StoreUnderTest) -> None:
        claimed = jobs.take(a_job())
        jobs.finish(claimed, transition_to(JobStatus.RETRYING, claimed.job))
        assert jobs.store.extend([lease_of(claimed)], lease_seconds=HOUR) == [False]
        jobs.advance(BACKOFF * 1.5)
        assert jobs.knocked() == {claimed.job.id}

    def test_the_lease_is_lost_to_a_later_attempt(self, jobs: StoreUnderTest) -> None:
        first = jobs.take(a_job())
        jobs.lose(first)
        second = jobs.claim(first.job.id)
        assert second is not None
        assert jobs.store.extend([lease_of(first)], lease_seconds=HOUR) == [False]
        jobs.advance(LEASE * 1.5)
        assert jobs.sweep().expired == (second,)

    def test_extensions_are_answered_in_their_order(self, jobs: StoreUnderTest) -> None:
        alive, over = jobs.take(a_job()), jobs.take(a_job())
        jobs.finish(over, transition_to(JobStatus.COMPLETED, over.job))
        leases = [Lease(job_id=uuid4(), attempt=1), lease_of(alive), lease_of(over), lease_of(alive)]
        assert jobs.store.extend(leases, lease_seconds=LEASE) == [False, True, False, True]

    def test_an_attempt_whose_lease_ran_out_is_reported_and_left_as_it_is(self, jobs: StoreUnderTest) -> None:
        claimed = jobs.take(a_job())
        jobs.advance(LEASE / 2)
        assert jobs.sweep().expired == ()
        jobs.advance(LEASE)
        for _ in range(2):
            assert jobs.sweep().expired == (claimed,)
            assert jobs.store.holder(claimed.job.id) == claimed


class Sweeping:
    def test_nothing_is_due_in_an_empty_store(self, jobs: StoreUnderTest) -> None:
        found = jobs.sweep()
        assert (found.knocks, found.expired, found.next_due_in) == ((), (), None)

    @pytest.mark.parametrize("status", ENDED)
    def test_a_job_that_ended_is_never_due(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        brought_to(jobs, status)
        jobs.advance(HOUR * 100)
        found = jobs.sweep()
        assert (found.knocks, found.expired, found.next_due_in) == ((), (), None)

    def test_the_sweep_says_when_the_next_job_falls_due(self, jobs: StoreUnderTest) -> None:
        jobs.insert(a_job(scheduled_at=jobs.now() + timedelta(seconds=500)))
        assert jobs.sweep().next_due_in == pytest.approx(500, abs=10)
        brought_to(jobs, JobStatus.RETRYING)
        assert jobs.sweep().next_due_in == pytest.approx(BACKOFF, abs=10)
        jobs.insert(a_job())
        assert jobs.sweep().next_due_in == pytest.approx(KNOCK, abs=10)
        jobs.advance(KNOCK + 10)
        assert jobs.sweep().next_due_in == pytest.approx(BACKOFF - KNOCK - 10, abs=10)

    def test_a_pending_job_is_knocked_for_when_its_first_knock_may_be_lost(self, jobs: StoreUnderTest) -> None:
        [job] = jobs.insert(a_job())
        jobs.advance(KNOCK / 2)
        assert jobs.knocked() == set()
        jobs.advance(KNOCK)
        [knock] = jobs.sweep().knocks
        assert (knock.job, knock.envelope) == (job, None)
        assert jobs.knocked() == set()

    def test_each_further_knock_waits_twice_as_long_up_to_an_hour(self, jobs: StoreUnderTest) -> None:
        [job] = jobs.insert(a_job())
        jobs.advance(KNOCK + 1)
        waits = []
        for _ in range(20):
            found = jobs.sweep()
            assert {knock.job.id for knock in found.knocks} == {job.id}
            assert found.next_due_in is not None
            waits.append(found.next_due_in)
            jobs.advance(found.next_due_in + 1)
        expected = [lifecycle.knock_delay(knocks, KNOCK) for knocks in range(1, 21)]
        assert waits == pytest.approx(expected, abs=10)
        assert waits[:3] == pytest.approx([2 * KNOCK, 4 * KNOCK, 8 * KNOCK], abs=10)
        assert waits[-1] == pytest.approx(HOUR, abs=10)

    def test_a_scheduled_job_becomes_pending_at_its_time(self, jobs: StoreUnderTest) -> None:
        job = brought_to(jobs, JobStatus.SCHEDULED)
        jobs.advance(HOUR / 2)
        assert jobs.knocked() == set()
        assert jobs.job(job.id) == job
        jobs.advance(HOUR)
        found = jobs.sweep()
        assert [knock.job for knock in found.knocks] == [lifecycle.due(job)] == [jobs.job(job.id)]
        assert found.next_due_in == pytest.approx(KNOCK, abs=10)
        assert jobs.claim(job.id) is not None

    def test_a_retrying_job_is_knocked_for_after_its_backoff_and_stays_retrying(self, jobs: StoreUnderTest) -> None:
        job = brought_to(jobs, JobStatus.RETRYING)
        jobs.advance(BACKOFF / 2)
        assert jobs.knocked() == set()
        jobs.advance(BACKOFF)
        found = jobs.sweep()
        assert [knock.job for knock in found.knocks] == [job] == [jobs.job(job.id)]
        assert found.next_due_in == pytest.approx(KNOCK, abs=10)

    def test_the_knocks_for_a_retry_do_not_go_on_from_those_before_the_run(self, jobs: StoreUnderTest) -> None:
        [job] = jobs.insert(a_job())
        for _ in range(5):
            jobs.advance(HOUR)
            assert jobs.knocked() == {job.id}
        claimed = jobs.claim(job.id)
        assert claimed is not None
        jobs.finish(claimed, transition_to(JobStatus.RETRYING, claimed.job))
        jobs.advance(BACKOFF * 1.5)
        assert jobs.sweep().next_due_in == pytest.approx(KNOCK, abs=10)

    def test_a_knock_says_whether_one_was_given_before(self, jobs: StoreUnderTest) -> None:
        [pending] = jobs.insert(a_job())
        scheduled = brought_to(jobs, JobStatus.SCHEDULED)
        retrying = brought_to(jobs, JobStatus.RETRYING)
        jobs.advance(HOUR * 2)
        # The first knock for a job that may start at once is given by whoever stores it.
        assert {knock.job.id: knock.again for knock in jobs.sweep().knocks} == {
            pending.id: True,
            scheduled.id: False,
            retrying.id: False,
        }
        jobs.advance(HOUR * 2)
        assert {knock.again for knock in jobs.sweep().knocks} == {True}

    def test_a_limited_sweep_takes_what_is_longest_due_and_says_that_more_waits(self, jobs: StoreUnderTest) -> None:
        ids = []
        for _ in range(3):
            ids.append(jobs.insert(a_job())[0].id)
            jobs.advance(5)
        jobs.advance(KNOCK * 2)
        first = jobs.sweep(limit=2)
        assert {knock.job.id for knock in first.knocks} == set(ids[:2])
        assert first.next_due_in == 0.0
        second = jobs.sweep(limit=2)
        assert {knock.job.id for knock in second.knocks} == {ids[2]}
        assert second.next_due_in == pytest.approx(2 * KNOCK, abs=10)

    def test_lost_workers_do_not_crowd_out_the_knocks(self, jobs: StoreUnderTest) -> None:
        held = {jobs.take(a_job()).job.id for _ in range(3)}
        jobs.advance(LEASE * 1.5)
        [waiting] = jobs.insert(a_job())
        jobs.advance(KNOCK * 1.5)
        found = jobs.sweep(limit=2)
        assert {knock.job.id for knock in found.knocks} == {waiting.id}
        assert len({expired.job.id for expired in found.expired} & held) == 2


class LosingWorkers:
    def test_the_next_claim_hears_of_the_lost_worker(self, jobs: StoreUnderTest) -> None:
        first = jobs.take(a_job(), "worker-1")
        job = jobs.lose(first)
        assert job.status is JobStatus.RETRYING
        second = jobs.claim(job.id, "worker-2")
        assert second is not None
        assert second.lost_error == job.error_message
        assert second.lost_error is not None
        assert second.lost_error.startswith("WorkerLost: worker-1")
        assert second.attempt == 2
        assert second == jobs.store.holder(job.id)

    def test_a_loss_is_heard_of_once(self, jobs: StoreUnderTest) -> None:
        first = jobs.take(a_job())
        jobs.lose(first)
        second = jobs.claim(first.job.id)
        assert second is not None
        jobs.finish(second, transition_to(JobStatus.RETRYING, second.job, delay=0.0))
        third = jobs.claim(first.job.id)
        assert third is not None
        assert third.lost_error is None

    def test_a_lost_job_waits_for_its_backoff_as_any_other(self, jobs: StoreUnderTest) -> None:
        claimed = jobs.take(a_job())
        jobs.lose(claimed, delay=BACKOFF)
        assert jobs.claim(claimed.job.id) is None
        jobs.advance(BACKOFF * 1.5)
        assert jobs.knocked() == {claimed.job.id}
        assert jobs.claim(claimed.job.id) is not None

    def test_a_dead_letter_that_owes_a_notice_is_knocked_for_at_once(self, jobs: StoreUnderTest) -> None:
        lost = dead_by_loss(jobs)
        found = jobs.sweep()
        assert [knock.job for knock in found.knocks] == [jobs.job(lost.job.id)]
        assert found.expired == ()
        assert jobs.job(lost.job.id).status is JobStatus.DEAD_LETTER

    def test_claiming_a_dead_letter_that_owes_a_notice_starts_nothing(self, jobs: StoreUnderTest) -> None:
        lost = dead_by_loss(jobs)
        dead = jobs.job(lost.job.id)
        claimed = jobs.claim(dead.id, "worker-2")
        assert claimed == ClaimedJob(job=dead, attempt=lost.attempt, worker=lost.worker, lost_error=dead.error_message)
        assert dead.error_message is not None
        assert jobs.job(dead.id) == dead
        assert jobs.store.holder(dead.id) is None
        assert jobs.finish(lost, transition_to(JobStatus.COMPLETED, lost.job)) is None

    def test_a_notice_that_was_not_settled_is_owed_again_after_the_lease(self, jobs: StoreUnderTest) -> None:
        lost = dead_by_loss(jobs)
        assert jobs.claim(lost.job.id, "worker-2") is not None
        jobs.advance(LEASE / 2)
        assert jobs.knocked() == set()
        jobs.advance(LEASE)
        assert jobs.knocked() == {lost.job.id}
        assert jobs.claim(lost.job.id, "worker-3") is not None

    def test_a_settled_notice_is_owed_no_more(self, jobs: StoreUnderTest) -> None:
        lost = dead_by_loss(jobs)
        dead = jobs.job(lost.job.id)
        claimed = jobs.claim(lost.job.id)
        assert claimed is not None
        for _ in range(2):
            jobs.store.settle_loss(lease_of(claimed))
            assert jobs.claim(lost.job.id) is None
            jobs.advance(HOUR)
            assert jobs.sweep().next_due_in is None
            assert jobs.job(lost.job.id) == dead

    def test_only_the_attempt_that_was_lost_settles_the_notice(self, jobs: StoreUnderTest) -> None:
        lost = dead_by_loss(jobs)
        jobs.store.settle_loss(Lease(job_id=lost.job.id, attempt=lost.attempt + 1))
        jobs.store.settle_loss(Lease(job_id=uuid4(), attempt=1))
        assert jobs.claim(lost.job.id) is not None

    def test_settling_does_not_take_the_notice_from_a_job_that_is_retried(self, jobs: StoreUnderTest) -> None:
        first = jobs.take(a_job())
        jobs.lose(first)
        jobs.store.settle_loss(lease_of(first))
        assert jobs.knocked() == {first.job.id}
        second = jobs.claim(first.job.id)
        assert second is not None
        assert second.lost_error is not None
        jobs.store.settle_loss(lease_of(second))
        assert jobs.store.holder(first.job.id) == second

    def test_a_job_cancelled_after_a_loss_owes_nothing(self, jobs: StoreUnderTest) -> None:
        claimed = jobs.take(a_job())
        jobs.lose(claimed)
        assert jobs.store.cancel(claimed.job.id)
        assert jobs.claim(claimed.job.id) is None
        jobs.advance(HOUR)
        assert jobs.sweep().next_due_in is None

    def test_a_dead_letter_that_owes_a_notice_can_be_requeued_and_discarded(self, jobs: StoreUnderTest) -> None:
        requeued, discarded = dead_by_loss(jobs), dead_by_loss(jobs)
        assert jobs.requeue(requeued.job.id) is not None
        assert jobs.discard(discarded.job.id)
        assert jobs.knocked() == set()
        claimed = jobs.claim(requeued.job.id)
        assert claimed is not None
        assert claimed.job.status is JobStatus.RUNNING
        assert claimed.attempt == requeued.attempt + 1
        assert claimed.lost_error is None


class Postponing:
    @pytest.mark.parametrize("status", WAITING)
    def test_a_job_without_a_handler_goes_on_to_wait_and_nothing_else_of_it_changes(
        self, jobs: StoreUnderTest, status: JobStatus
    ) -> None:
        job = brought_to(jobs, status)
        jobs.advance(HOUR * 1.5)
        before = jobs.store.get(job.id)
        assert before is not None
        stored = postponed(jobs, job)
        assert stored == lifecycle.postponed(job, postponement_of(job), waited=0.0, worker_lost=False, now=jobs.now())
        assert stored.error_message == lifecycle.no_handler_message("email.send", "worker-9")
        assert stored.status is (JobStatus.RETRYING if status is JobStatus.RETRYING else JobStatus.PENDING)
        assert jobs.store.get(job.id) == replace(before, job=stored)

    def test_it_may_not_start_nor_be_knocked_for_before_its_pause_is_over(self, jobs: StoreUnderTest) -> None:
        [job] = jobs.insert(a_job())
        postponed(jobs, job)
        jobs.advance(HOUR / 2)  # from here on the pause is the longest
        assert postponed(jobs, job) is not None
        jobs.advance(lifecycle.LONGEST_POSTPONEMENT / 2)
        assert jobs.knocked() == set()
        assert postponed(jobs, job) is None
        assert jobs.claim(job.id) is None
        jobs.advance(lifecycle.LONGEST_POSTPONEMENT)
        [knock] = jobs.sweep().knocks
        assert (knock.job.id, knock.again) == (job.id, False)
        claimed = jobs.claim(job.id)
        assert claimed is not None
        assert (claimed.attempt, claimed.job.retry_count, claimed.lost_error) == (1, 0, None)

    def test_the_first_pause_is_short(self, jobs: StoreUnderTest) -> None:
        began = jobs.now()
        [job] = jobs.insert(a_job())
        postponed(jobs, job)
        next_due_in = jobs.sweep().next_due_in
        assert next_due_in is not None
        # Where the disk stands still for as long as that, the pause is longer, or over.
        stood_still = (jobs.now() - began).total_seconds() >= lifecycle.SHORTEST_POSTPONEMENT
        assert stood_still or 0 < next_due_in <= lifecycle.SHORTEST_POSTPONEMENT

    @pytest.mark.parametrize("status", NOT_WAITING)
    def test_a_job_that_does_not_wait_is_not_put_back(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        job = brought_to(jobs, status)
        jobs.advance(HOUR)
        assert postponed(jobs, job, patience=0.0) is None
        assert jobs.job(job.id) == job

    @pytest.mark.parametrize("status", [JobStatus.SCHEDULED, JobStatus.RETRYING])
    def test_a_job_whose_time_has_not_come_is_not_put_back(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        job = brought_to(jobs, status)
        assert postponed(jobs, job, patience=0.0) is None
        assert jobs.job(job.id) == job

    def test_an_unknown_job_and_one_of_another_type_are_not_put_back(self, jobs: StoreUnderTest) -> None:
        [job] = jobs.insert(a_job())
        forged = postponement_of(job, job_type="nobody.knows", patience=0.0)
        assert jobs.store.postpone([postponement_of(a_job()), forged]) == [None, None]
        assert jobs.job(job.id) == job
        assert jobs.claim(job.id) is not None

    def test_postponements_are_answered_in_their_order_and_each_job_is_put_back_once(
        self, jobs: StoreUnderTest
    ) -> None:
        first, taken, second = jobs.insert(a_job(), a_job(), a_job())
        jobs.claim(taken.id)
        forged = postponement_of(first, job_type="nobody.knows")
        batch = [forged, *map(postponement_of, [second, taken, first, a_job(), second])]
        found = [None if job is None else job.id for job in jobs.store.postpone(batch)]
        assert found == [None, second.id, None, first.id, None, None]

    def test_a_job_that_no_worker_has_known_for_too_long_is_a_dead_letter(self, jobs: StoreUnderTest) -> None:
        [job] = jobs.insert(a_job())
        assert not patience_is_over(jobs, job, HOUR)
        jobs.advance(HOUR / 2)
        assert not patience_is_over(jobs, job, HOUR)
        jobs.advance(HOUR / 2 + 1)
        stored = postponed(jobs, job)
        assert stored is not None
        assert jobs.is_now(stored.failed_at)
        assert stored == replace(
            job,
            status=JobStatus.DEAD_LETTER,
            failed_at=stored.failed_at,
            error_message=lifecycle.unknown_type_message("email.send", HOUR),
        )
        record = jobs.store.get(job.id)
        assert record is not None
        assert (record.job, record.attempts) == (stored, ())
        jobs.advance(HOUR)
        assert jobs.sweep().knocks == ()
        assert (jobs.claim(job.id), postponed(jobs, job)) == (None, None)

    def test_patience_may_outlast_any_number_of_meetings(self, jobs: StoreUnderTest) -> None:
        [job] = jobs.insert(a_job())
        for _ in range(40):
            assert not patience_is_over(jobs, job, HOUR)
            jobs.advance(lifecycle.LONGEST_POSTPONEMENT + 1)
        jobs.advance(HOUR / 3)
        assert patience_is_over(jobs, job, HOUR)

    def test_nothing_that_leaves_the_job_waiting_makes_patience_begin_anew(self, jobs: StoreUnderTest) -> None:
        [job] = jobs.insert(a_job())
        assert not patience_is_over(jobs, job, HOUR)
        assert jobs.claim(job.id) is None
        jobs.advance(HOUR / 2)
        assert jobs.knocked() == {job.id}
        jobs.insert(job)
        jobs.requeue(job.id)
        jobs.store.settle_loss(Lease(job_id=job.id, attempt=0))
        jobs.store.extend([Lease(job_id=job.id, attempt=0)], lease_seconds=LEASE)
        jobs.discard(job.id)
        jobs.advance(HOUR / 2 + 1)
        assert patience_is_over(jobs, job, HOUR)

    def test_patience_does_not_begin_before_a_worker_without_a_handler_comes(self, jobs: StoreUnderTest) -> None:
        job = brought_to(jobs, JobStatus.RETRYING)
        jobs.advance(HOUR * 3)
        jobs.sweep()
        assert not patience_is_over(jobs, job, HOUR)

    def test_a_worker_that_takes_the_job_ends_its_time_without_a_handler(self, jobs: StoreUnderTest) -> None:
        [job] = jobs.insert(a_job())
        assert not patience_is_over(jobs, job, HOUR)
        jobs.advance(HOUR)
        claimed = jobs.claim(job.id)
        assert claimed is not None
        jobs.finish(claimed, transition_to(JobStatus.RETRYING, claimed.job))
        jobs.advance(HOUR)
        assert not patience_is_over(jobs, job, HOUR)

    def test_a_requeued_job_has_all_its_patience_again(self, jobs: StoreUnderTest) -> None:
        [job] = jobs.insert(a_job())
        assert not patience_is_over(jobs, job, HOUR)
        assert jobs.store.cancel(job.id)
        assert jobs.requeue(job.id)
        jobs.advance(HOUR * 2)
        assert not patience_is_over(jobs, job, HOUR)
        jobs.advance(HOUR * 2)
        assert patience_is_over(jobs, job, HOUR)
        assert jobs.requeue(job.id)
        assert not patience_is_over(jobs, job, HOUR)

    def test_its_handler_still_hears_of_a_worker_that_was_lost_before(self, jobs: StoreUnderTest) -> None:
        lost = jobs.lose(jobs.take(a_job())).error_message
        job = jobs.store.list_jobs(JobFilter()).jobs[0]
        told = f"{lifecycle.no_handler_message('email.send', 'worker-9')}. {lost}"
        for _ in range(3):
            stored = postponed(jobs, job)
            assert stored is not None
            assert (stored.status, stored.retry_count, stored.error_message) == (JobStatus.RETRYING, 1, told)
            jobs.advance(HOUR / 10)
        claimed = jobs.claim(job.id)
        assert claimed is not None
        assert claimed.lost_error == told
        assert lifecycle.lost_part(told) == lifecycle.lost_part(str(lost))

    def test_a_job_that_is_given_up_after_a_loss_owes_the_notice(self, jobs: StoreUnderTest) -> None:
        lost = jobs.lose(jobs.take(a_job())).error_message
        job = jobs.store.list_jobs(JobFilter()).jobs[0]
        stored = postponed(jobs, job, patience=0.0)
        assert stored is not None
        assert stored.status is JobStatus.DEAD_LETTER
        assert stored.error_message == f"{lifecycle.unknown_type_message('email.send', 0.0)}. {lost}"
        assert jobs.knocked() == {job.id}
        claimed = jobs.claim(job.id)
        assert claimed is not None
        assert claimed.lost_error == stored.error_message

    def test_a_notice_that_nobody_can_be_told_is_owed_until_patience_ends(self, jobs: StoreUnderTest) -> None:
        dead = jobs.job(dead_by_loss(jobs).job.id)
        for _ in range(2):
            assert jobs.knocked() == {dead.id}
            assert postponed(jobs, dead) == dead
            jobs.advance(HOUR / 2)
        assert jobs.knocked() == {dead.id}, "it is owed, and whoever can tell it shall"
        jobs.advance(1)
        assert postponed(jobs, dead) == dead
        jobs.advance(HOUR * 3)
        assert jobs.sweep().knocks == ()
        assert jobs.claim(dead.id) is None
        assert jobs.job(dead.id) == dead

    def test_a_worker_that_can_tell_the_notice_gets_it_until_then(self, jobs: StoreUnderTest) -> None:
        dead = jobs.job(dead_by_loss(jobs).job.id)
        for _ in range(3):
            assert postponed(jobs, dead) == dead
            claimed = jobs.claim(dead.id)
            assert claimed is not None
            assert claimed.lost_error == dead.error_message
            jobs.advance(HOUR / 4)
        jobs.advance(HOUR / 4)
        assert postponed(jobs, dead) == dead
        assert jobs.claim(dead.id) is None, "claims by who does not settle it put off its end"


class Administering:
    @pytest.mark.parametrize("status", WAITING)
    def test_a_waiting_job_is_cancelled(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        job = brought_to(jobs, status)
        assert jobs.store.cancel(job.id) is True
        cancelled = jobs.job(job.id)
        assert jobs.is_now(cancelled.failed_at)
        assert cancelled == lifecycle.cancelled(job, at(cancelled.failed_at))
        assert cancelled.status is JobStatus.FAILED
        assert cancelled.error_message == "Job cancelled"

    @pytest.mark.parametrize("status", WAITING)
    def test_a_cancelled_job_never_runs(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        job = brought_to(jobs, status)
        jobs.store.cancel(job.id)
        jobs.advance(HOUR * 2)
        found = jobs.sweep()
        assert (found.knocks, found.next_due_in) == ((), None)
        assert jobs.claim(job.id) is None
        assert jobs.store.cancel(job.id) is False

    @pytest.mark.parametrize("status", NOT_WAITING)
    def test_it_is_too_late_to_cancel(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        job = brought_to(jobs, status)
        assert jobs.store.cancel(job.id) is False
        assert jobs.job(job.id) == job

    @pytest.mark.parametrize("running", [False, True])
    @pytest.mark.parametrize("status", list(JobStatus))
    def test_what_may_be_cancelled_is_as_the_lifecycle_decides(
        self, jobs: StoreUnderTest, status: JobStatus, running: bool
    ) -> None:
        job = brought_to(jobs, status)
        decided = lifecycle.cancelled(job, jobs.now(), running=running)
        assert jobs.store.cancel(job.id, running=running) is (decided is not None)
        found = jobs.job(job.id)
        assert found == (job if decided is None else replace(decided, failed_at=found.failed_at))
        assert jobs.store.cancel(job.id, running=running) is False

    def test_a_job_that_is_cancelled_while_it_runs_has_ended_for_its_worker(self, jobs: StoreUnderTest) -> None:
        claimed = jobs.take(a_job(), "worker-7")
        jobs.advance(LEASE / 2)
        assert jobs.store.cancel(claimed.job.id, running=True)
        cancelled = jobs.job(claimed.job.id)
        assert jobs.is_now(cancelled.failed_at)
        assert jobs.store.holder(claimed.job.id) is None
        assert jobs.store.extend([lease_of(claimed)], lease_seconds=LEASE) == [False]
        for status in AFTER_RUNNING:
            assert jobs.finish(claimed, transition_to(status, claimed.job)) is None
        record = jobs.store.get(claimed.job.id)
        assert record is not None
        assert record.job == cancelled
        [attempt] = record.attempts
        assert attempt == Attempt(
            number=1,
            worker="worker-7",
            started_at=at(claimed.job.started_at),
            ended_at=cancelled.failed_at,
            error="Job cancelled",
        )

    def test_a_job_that_is_cancelled_while_it_runs_is_due_no_more(self, jobs: StoreUnderTest) -> None:
        claimed = jobs.take(a_job())
        jobs.store.cancel(claimed.job.id, running=True)
        jobs.advance(HOUR)
        found = jobs.sweep()
        assert (found.knocks, found.expired, found.next_due_in) == ((), (), None)
        assert jobs.claim(claimed.job.id) is None
        assert jobs.store.stats("default") == lifecycle.queue_stats("default", {JobStatus.FAILED: 1})

    def test_a_job_that_is_cancelled_while_it_runs_can_be_requeued(self, jobs: StoreUnderTest) -> None:
        claimed = jobs.take(a_job())
        jobs.store.cancel(claimed.job.id, running=True)
        assert jobs.requeue(claimed.job.id) is not None
        again = jobs.claim(claimed.job.id)
        assert again is not None
        assert again.attempt == 2
        assert jobs.finish(claimed, transition_to(JobStatus.COMPLETED, claimed.job)) is None
        assert jobs.finish(again, transition_to(JobStatus.COMPLETED, again.job)) is not None

    def test_a_job_that_is_cancelled_while_it_runs_owes_no_notice_of_an_earlier_loss(
        self, jobs: StoreUnderTest
    ) -> None:
        first = jobs.take(a_job())
        jobs.lose(first)
        assert jobs.claim(first.job.id) is not None
        jobs.store.cancel(first.job.id, running=True)
        jobs.requeue(first.job.id)
        again = jobs.claim(first.job.id)
        assert again is not None
        assert again.lost_error is None

    def test_an_unknown_job_is_not_changed(self, jobs: StoreUnderTest) -> None:
        assert jobs.store.cancel(uuid4()) is False
        assert jobs.discard(uuid4()) is False
        assert jobs.store.cancel(uuid4(), running=True) is False
        assert jobs.requeue(uuid4()) is None

    @pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.DEAD_LETTER])
    def test_a_failed_job_is_started_afresh(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        job = brought_to(jobs, status, a_job(scheduled_at=jobs.now() - timedelta(hours=1)))
        fresh = jobs.requeue(job.id)
        assert fresh == lifecycle.requeued(job) == jobs.job(job.id)
        assert fresh is not None
        assert (fresh.status, fresh.retry_count) == (JobStatus.PENDING, 0)
        record = jobs.store.get(job.id)
        assert record is not None
        assert record.result_data is None

    def test_a_requeued_job_is_knocked_for_and_can_be_claimed(self, jobs: StoreUnderTest) -> None:
        job = brought_to(jobs, JobStatus.FAILED)
        jobs.requeue(job.id)
        jobs.advance(KNOCK / 2)
        assert jobs.knocked() == set()
        jobs.advance(KNOCK)
        assert jobs.sweep().next_due_in == pytest.approx(2 * KNOCK, abs=10)
        claimed = jobs.claim(job.id, "worker-2")
        assert claimed is not None
        assert claimed.attempt == 2
        assert jobs.requeue(job.id) is None

    def test_the_history_goes_on_after_a_requeue(self, jobs: StoreUnderTest) -> None:
        job = brought_to(jobs, JobStatus.DEAD_LETTER)
        jobs.requeue(job.id)
        claimed = jobs.claim(job.id, "worker-2")
        assert claimed is not None
        jobs.finish(claimed, transition_to(JobStatus.COMPLETED, claimed.job))
        record = jobs.store.get(job.id)
        assert record is not None
        assert [(attempt.number, attempt.worker, attempt.error) for attempt in record.attempts] == [
            (1, "worker-1", "ConnectionError: the mail server hung up"),
            (2, "worker-2", None),
        ]

    def test_a_requeued_job_does_not_wait_for_the_time_it_was_scheduled_for(self, jobs: StoreUnderTest) -> None:
        job = brought_to(jobs, JobStatus.SCHEDULED)
        jobs.store.cancel(job.id)
        jobs.requeue(job.id)
        assert jobs.claim(job.id) is not None

    @pytest.mark.parametrize("status", [*NOT_ENDED, JobStatus.COMPLETED])
    def test_only_a_failed_job_is_started_afresh(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        job = brought_to(jobs, status)
        assert jobs.requeue(job.id) is None
        assert jobs.job(job.id) == job

    @pytest.mark.parametrize("status", ENDED)
    def test_a_job_that_ended_is_discarded_with_its_history(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        job, other = brought_to(jobs, status), brought_to(jobs, status)
        assert jobs.discard(job.id) is True
        assert jobs.store.get(job.id) is None
        assert jobs.discard(job.id) is False
        assert [left.id for left in jobs.store.list_jobs(JobFilter()).jobs] == [other.id]
        [(_job, created)] = jobs.store.insert([job], knock_seconds=KNOCK)
        record = jobs.store.get(job.id)
        assert created
        assert record is not None
        assert (record.attempts, record.result_data) == ((), None)
        kept = jobs.store.get(other.id)
        assert kept is not None
        assert len(kept.attempts) == 1

    @pytest.mark.parametrize("status", NOT_ENDED)
    def test_a_job_that_has_not_ended_is_not_discarded(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        job = brought_to(jobs, status)
        assert jobs.discard(job.id) is False
        assert jobs.job(job.id) == job


class Reading:
    @pytest.mark.parametrize("status", list(JobStatus))
    def test_only_a_running_job_has_a_holder(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        job = brought_to(jobs, status)
        expected = ClaimedJob(job=job, attempt=1, worker="worker-1") if status is JobStatus.RUNNING else None
        assert jobs.store.holder(job.id) == expected

    def test_an_unknown_job_is_not_found(self, jobs: StoreUnderTest) -> None:
        assert jobs.store.get(uuid4()) is None
        assert jobs.store.holder(uuid4()) is None

    def test_an_empty_store_has_an_empty_page(self, jobs: StoreUnderTest) -> None:
        page = jobs.store.list_jobs(JobFilter())
        assert (page.jobs, page.next_cursor) == ((), None)

    def test_the_newest_jobs_come_first(self, jobs: StoreUnderTest) -> None:
        ids = []
        for _ in range(3):
            ids.append(jobs.insert(a_job())[0].id)
            jobs.advance(1)
        assert [job.id for job in jobs.store.list_jobs(JobFilter()).jobs] == ids[::-1]

    @pytest.mark.parametrize("status", list(JobStatus))
    def test_jobs_are_listed_as_they_are_stored(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        job = brought_to(jobs, status)
        assert jobs.store.list_jobs(JobFilter()).jobs == (job,)

    def test_filters_narrow_the_list_and_go_together(self, jobs: StoreUnderTest) -> None:
        mail, report = a_job(), a_job(job_type="report.daily")
        elsewhere = a_job(queue_name="reports", job_type="report.daily")
        done = brought_to(jobs, JobStatus.COMPLETED, a_job(job_type="report.daily"))
        jobs.insert(mail, report, elsewhere)

        def found(**wanted: Any) -> set[UUID]:
            return {job.id for job in jobs.store.list_jobs(JobFilter(**wanted)).jobs}

        assert found(queue_name="default") == {mail.id, report.id, done.id}
        assert found(queue_name="reports") == {elsewhere.id}
        assert found(job_type="report.daily") == {report.id, elsewhere.id, done.id}
        assert found(status=JobStatus.PENDING) == {mail.id, report.id, elsewhere.id}
        assert found(status=JobStatus.COMPLETED) == {done.id}
        assert found(queue_name="default", job_type="report.daily", status=JobStatus.PENDING) == {report.id}
        assert found(queue_name="nowhere") == set()

    @pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
    def test_pages_hold_each_job_once(self, jobs: StoreUnderTest, limit: int) -> None:
        wanted = set()
        for size in (2, 3, 1):  # jobs of one batch have one time of creation
            wanted |= {job.id for job in jobs.insert(*(a_job() for _ in range(size)))}
            jobs.insert(a_job(queue_name="another"))
            jobs.advance(1)
        found: list[Job] = []
        cursor = None
        for page_number in range(100):
            page = jobs.store.list_jobs(JobFilter(queue_name="default", limit=limit, cursor=cursor))
            assert len(page.jobs) <= limit
            found += page.jobs
            cursor = page.next_cursor
            if cursor is None:
                break
            assert len(page.jobs) == limit, f"page {page_number} is not full, yet not the last"
        assert sorted(job.id for job in found) == sorted(wanted)
        assert all(at(newer.created_at) >= at(older.created_at) for newer, older in pairwise(found))

    def test_pages_do_not_shift_when_jobs_come_and_go(self, jobs: StoreUnderTest) -> None:
        ids = []
        for _ in range(6):
            ids.append(brought_to(jobs, JobStatus.COMPLETED).id)
            jobs.advance(1)
        newest_first = ids[::-1]
        page = jobs.store.list_jobs(JobFilter(limit=3))
        assert [job.id for job in page.jobs] == newest_first[:3]
        jobs.insert(a_job(), a_job())
        jobs.discard(newest_first[2])
        jobs.discard(newest_first[4])
        page = jobs.store.list_jobs(JobFilter(limit=3, cursor=page.next_cursor))
        assert [job.id for job in page.jobs] == [newest_first[3], newest_first[5]]
        assert page.next_cursor is None

    @pytest.mark.parametrize("cursor", ["", "nonsense", "7-nonsense", f"{10**30}-{UUID(int=7)}", "-", "\x00"])
    def test_a_cursor_that_no_page_gave_is_refused(self, jobs: StoreUnderTest, cursor: str) -> None:
        with pytest.raises(ValidationError, match="cursor"):
            jobs.store.list_jobs(JobFilter(cursor=cursor))

    def test_a_queue_is_counted_by_state(self, jobs: StoreUnderTest) -> None:
        for count, status in enumerate(JobStatus, start=1):
            for _ in range(count):
                brought_to(jobs, status)
        jobs.insert(a_job(queue_name="another"))
        counts = {status: count for count, status in enumerate(JobStatus, start=1)}
        assert jobs.store.stats("default") == lifecycle.queue_stats("default", counts)
        assert jobs.store.stats("default").running_count == counts[JobStatus.RUNNING]

    def test_of_a_queue_the_jobs_of_one_caller_are_counted_apart(self, jobs: StoreUnderTest) -> None:
        ann, bob = uuid4(), uuid4()
        for count, status in enumerate(JobStatus, start=1):
            for _ in range(count):
                brought_to(jobs, status, replace(a_job(), created_by=ann))
        jobs.insert(replace(a_job(), created_by=bob), a_job(), replace(a_job(queue_name="another"), created_by=ann))
        counts = {status: count for count, status in enumerate(JobStatus, start=1)}
        assert jobs.store.stats("default", created_by=ann) == lifecycle.queue_stats("default", counts)
        assert jobs.store.stats("default", created_by=bob).pending_count == 1
        assert jobs.store.stats("another", created_by=ann).pending_count == 1
        nobody = QueueStats("default", 0, 0, 0, 0, 0)
        assert jobs.store.stats("default", created_by=uuid4()) == nobody
        assert jobs.store.stats("another", created_by=bob) == replace(nobody, queue_name="another")

    def test_jobs_of_a_caller_that_are_requeued_or_discarded_are_counted_as_such(self, jobs: StoreUnderTest) -> None:
        ann = uuid4()
        first, second = (brought_to(jobs, JobStatus.FAILED, replace(a_job(), created_by=ann)) for _ in range(2))
        jobs.requeue(first.id)
        jobs.discard(second.id)
        counts = {JobStatus.PENDING: 1}
        assert jobs.store.stats("default", created_by=ann) == lifecycle.queue_stats("default", counts)

    def test_the_jobs_of_a_queue_that_were_knocked_for_are_counted_without_those_that_wait_for_their_time(
        self, jobs: StoreUnderTest
    ) -> None:
        for count, status in enumerate(JobStatus, start=2):
            for _ in range(count):
                brought_to(jobs, status)
        jobs.insert(a_job(queue_name="another"))
        assert jobs.store.count_knocked("default") == 2
        assert jobs.store.count_knocked("another") == 1
        assert jobs.store.count_knocked("nowhere") == 0

    @pytest.mark.parametrize("status", [JobStatus.SCHEDULED, JobStatus.RETRYING])
    def test_a_job_that_was_knocked_for_at_its_time_is_counted_until_it_is_taken(
        self, jobs: StoreUnderTest, status: JobStatus
    ) -> None:
        job = brought_to(jobs, status)
        assert jobs.store.count_knocked("default") == 0
        for _ in range(2):
            jobs.advance(HOUR * 1.5)
            assert jobs.knocked() == {job.id}
            assert jobs.store.count_knocked("default") == 1
        assert jobs.claim(job.id) is not None
        assert jobs.store.count_knocked("default") == 0

    @pytest.mark.parametrize("end", ["cancel", "postpone"])
    def test_a_job_that_no_message_need_tell_of_any_more_is_not_counted(self, jobs: StoreUnderTest, end: str) -> None:
        [job] = jobs.insert(a_job())
        assert jobs.store.count_knocked("default") == 1
        assert jobs.store.cancel(job.id) if end == "cancel" else postponed(jobs, job)
        assert jobs.store.count_knocked("default") == 0

    def test_a_job_that_is_requeued_is_counted_once(self, jobs: StoreUnderTest) -> None:
        job = brought_to(jobs, JobStatus.FAILED)
        jobs.requeue(job.id)
        assert jobs.store.count_knocked("default") == 1

    def test_an_unknown_queue_is_empty(self, jobs: StoreUnderTest) -> None:
        assert jobs.store.stats("nowhere") == QueueStats("nowhere", 0, 0, 0, 0, 0)


class Waiting:
    """For how long the job that is due longest has waited."""

    def test_in_an_empty_store_none_does(self, jobs: StoreUnderTest) -> None:
        assert jobs.store.oldest_due_seconds() == 0

    @pytest.mark.parametrize("status", NOT_WAITING)
    def test_a_job_that_does_not_wait_counts_for_nothing(self, jobs: StoreUnderTest, status: JobStatus) -> None:
        brought_to(jobs, status)
        jobs.advance(HOUR)
        assert jobs.store.oldest_due_seconds() == 0

    @pytest.mark.parametrize(
        ("status", "ahead"), [(JobStatus.PENDING, 0.0), (JobStatus.SCHEDULED, HOUR), (JobStatus.RETRYING, BACKOFF)]
    )
    def test_a_job_that_waits_counts_from_when_it_may_start(
        self, jobs: StoreUnderTest, status: JobStatus, ahead: float
    ) -> None:
        job = brought_to(jobs, status)
        assert jobs.store.oldest_due_seconds() < 10
        jobs.advance(ahead + 100)
        assert 100 <= jobs.store.oldest_due_seconds() < 110
        jobs.sweep()
        jobs.advance(HOUR)
        jobs.sweep()
        assert HOUR + 100 <= jobs.store.oldest_due_seconds() < HOUR + 110, "a knock does not make it begin anew"
        assert jobs.claim(job.id) is not None
        assert jobs.store.oldest_due_seconds() == 0

    def test_it_is_the_one_that_is_due_longest_and_not_the_one_that_was_created_first(
        self, jobs: StoreUnderTest
    ) -> None:
        brought_to(jobs, JobStatus.SCHEDULED)
        jobs.advance(HOUR / 2)
        [second] = jobs.insert(a_job())
        jobs.advance(HOUR)
        assert HOUR <= jobs.store.oldest_due_seconds() < HOUR + 10
        assert jobs.store.cancel(second.id)
        assert HOUR / 2 <= jobs.store.oldest_due_seconds() < HOUR / 2 + 10

    def test_a_job_that_is_requeued_waits_from_then_on(self, jobs: StoreUnderTest) -> None:
        job = brought_to(jobs, JobStatus.FAILED)
        jobs.advance(HOUR)
        assert jobs.requeue(job.id)
        jobs.advance(100)
        assert 100 <= jobs.store.oldest_due_seconds() < 110
        assert jobs.store.cancel(job.id)
        jobs.discard(job.id)
        assert jobs.store.oldest_due_seconds() == 0

    def test_a_job_that_no_worker_can_run_yet_waits_from_its_next_trial(self, jobs: StoreUnderTest) -> None:
        [job] = jobs.insert(a_job())
        jobs.advance(100)
        postponed(jobs, job)
        assert jobs.store.oldest_due_seconds() < 10
        jobs.advance(lifecycle.LONGEST_POSTPONEMENT + 100)
        assert jobs.store.oldest_due_seconds() >= 100


class OpeningAndSharing:
    def test_the_store_tells_its_own_time(self, jobs: StoreUnderTest) -> None:
        assert jobs.is_now(jobs.store.clock())
        jobs.advance(HOUR)
        told = jobs.store.clock()
        assert jobs.is_now(told)
        assert told.utcoffset() == timedelta(0)
        [job] = jobs.insert(a_job())
        assert told <= at(job.created_at) <= jobs.store.clock()

    def test_initializing_twice_is_initializing_once(self, jobs: StoreUnderTest) -> None:
        jobs.store.initialize()
        [job] = jobs.insert(a_job())
        jobs.store.initialize()
        assert jobs.job(job.id) == job

    def test_a_closed_store_opens_again_by_itself(self, jobs: StoreUnderTest) -> None:
        [job] = jobs.insert(a_job())
        jobs.store.close()
        jobs.store.close()
        assert jobs.job(job.id) == job
        assert jobs.claim(job.id) is not None

    def test_a_closed_store_that_was_never_used_can_be_used(self, jobs: StoreUnderTest) -> None:
        jobs.store.close()
        assert len(jobs.insert(a_job())) == 1

    def test_of_many_threads_each_job_is_claimed_by_one(self, jobs: StoreUnderTest) -> None:
        ids = [job.id for job in jobs.insert(*(a_job() for _ in range(200)))]

        def claim_all(worker: str) -> list[UUID]:
            shift = int(worker) * 25
            order = ids[shift:] + ids[:shift]
            won = []
            for start in range(0, len(order), 20):
                claims = [
                    Claim(job_id=job_id, worker=worker, lease_seconds=LEASE) for job_id in order[start : start + 20]
                ]
                won += [claimed.job.id for claimed in jobs.store.claim(claims) if claimed is not None]
            return won

        winners = in_threads(8, claim_all)
        assert sorted(job_id for won in winners.values() for job_id in won) == sorted(ids)
        for worker, won in winners.items():
            for job_id in won:
                holder = jobs.store.holder(job_id)
                assert holder is not None
                assert (holder.worker, holder.attempt) == (worker, 1)

    def test_of_many_threads_each_knock_is_given_by_one(self, jobs: StoreUnderTest) -> None:
        ids = [job.id for job in jobs.insert(*(a_job() for _ in range(100)))]
        jobs.advance(KNOCK * 1.5)

        def sweep_all(_worker: str) -> list[UUID]:
            knocked: list[UUID] = []
            while knocks := jobs.sweep(limit=10).knocks:
                knocked += [knock.job.id for knock in knocks]
            return knocked

        swept = in_threads(4, sweep_all)
        assert sorted(job_id for knocked in swept.values() for job_id in knocked) == sorted(ids)

    def test_of_many_threads_one_ends_a_job_one_way(self, jobs: StoreUnderTest) -> None:
        taken = [jobs.take(a_job()) for _ in range(20)]
        ways = [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.RETRYING, JobStatus.DEAD_LETTER]

        def end_all(worker: str) -> list[UUID]:
            way = ways[int(worker)]
            ended = [jobs.finish(claimed, transition_to(way, claimed.job)) for claimed in taken]
            return [job.id for job in ended if job is not None]

        winners = in_threads(len(ways), end_all)
        assert sorted(job_id for ended in winners.values() for job_id in ended) == sorted(
            claimed.job.id for claimed in taken
        )
        for worker, ended in winners.items():
            for job_id in ended:
                record = jobs.store.get(job_id)
                assert record is not None
                assert record.job.status is ways[int(worker)]
                assert len(record.attempts) == 1


class JobStoreContract(
    Inserting,
    Claiming,
    RepeatingClaims,
    Finishing,
    Leasing,
    Sweeping,
    LosingWorkers,
    Postponing,
    Administering,
    Reading,
    Waiting,
    OpeningAndSharing,
):
    """All that a job store promises."""


def in_threads(count: int, work: Callable[[str], list[UUID]]) -> dict[str, list[UUID]]:
    """Let threads named "0", "1", ... work at once; what each returned."""
    names = [str(number) for number in range(count)]
    barrier = threading.Barrier(count)

    def at_once(name: str) -> list[UUID]:
        barrier.wait(timeout=30)
        return work(name)

    with ThreadPoolExecutor(count) as pool:
        return dict(zip(names, pool.map(at_once, names), strict=True))
