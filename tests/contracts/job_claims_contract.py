"""What a job queue promises that hands out its jobs as claims, too: see ``portico_celery.ports.job_claims``.

A test class takes it over as it does JobQueueContract, with the same fixture.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from portico_celery.lifecycle import Failed, Released, Succeeded, decide
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_claims import JobClaims, KnownTypes
from portico_celery.ports.job_reader import JobRecord
from portico_celery.ports.job_store import ClaimedJob
from tests.contracts.job_queue_contract import at
from tests.contracts.queues import A_MOMENT, PATIENCE, QueueUnderTest
from tests.waiting import eventually

ANOTHER_TYPE = KnownTypes(includes="report.daily".__eq__, patience=900.0)


def claims(jobs: QueueUnderTest) -> JobClaims:
    assert isinstance(jobs.adapter, JobClaims)
    return jobs.adapter


def take(jobs: QueueUnderTest) -> ClaimedJob:
    claimed = jobs.run(claims(jobs).take(jobs.name, PATIENCE))
    assert claimed is not None, "no job came"
    return claimed


def record(jobs: QueueUnderTest, claimed: ClaimedJob) -> JobRecord:
    found = jobs.run(jobs.adapter.get_record(claimed.job.id))
    assert found is not None
    return found


def meet(jobs: QueueUnderTest, job_id: UUID, known: KnownTypes) -> None:
    """Have a caller that does not know its type meet a job."""

    def met() -> bool:
        assert jobs.run(claims(jobs).take(jobs.name, A_MOMENT, known=known)) is None
        return jobs.stored(job_id).error_message is not None

    eventually(met, PATIENCE)


class JobClaimsContract:
    def test_a_job_is_taken_with_its_attempt(self, jobs: QueueUnderTest) -> None:
        job = jobs.enqueued()
        claimed = take(jobs)
        assert (claimed.job.id, claimed.job.status, claimed.attempt) == (job.id, JobStatus.RUNNING, 1)
        assert claimed.lost_error is None
        assert jobs.none_comes()

    def test_an_empty_queue_answers_none(self, jobs: QueueUnderTest) -> None:
        assert jobs.run(claims(jobs).take(jobs.name, A_MOMENT)) is None

    def test_a_result_is_stored(self, jobs: QueueUnderTest) -> None:
        jobs.enqueued()
        claimed = take(jobs)
        done = decide(claimed.job, Succeeded(result_data={"sent": True}))
        assert jobs.run(claims(jobs).finish(claimed, done)) is True
        ended = record(jobs, claimed)
        assert (ended.job.status, ended.result_data) == (JobStatus.COMPLETED, {"sent": True})
        assert jobs.run(claims(jobs).finish(claimed, done)) is True

    def test_a_failure_keeps_its_traceback_and_comes_back_after_its_delay(self, jobs: QueueUnderTest) -> None:
        jobs.enqueued()
        claimed = take(jobs)
        failed = decide(claimed.job, Failed(error=ValueError("no"), traceback="Traceback: here"), retry_delay=A_MOMENT)
        assert jobs.run(claims(jobs).finish(claimed, failed)) is True
        assert record(jobs, claimed).attempts[0].traceback == "Traceback: here"
        again = take(jobs)
        assert (again.job.retry_count, claimed.attempt) == (1, 1)
        assert at(again.job.started_at) - at(claimed.job.started_at) >= timedelta(seconds=A_MOMENT)

    def test_a_job_that_is_given_back_has_spent_no_retry(self, jobs: QueueUnderTest) -> None:
        jobs.enqueued(max_retries=0)
        claimed = take(jobs)
        released = decide(claimed.job, Released(worker=claimed.worker, attempt=claimed.attempt))
        assert jobs.run(claims(jobs).finish(claimed, released)) is True
        again = take(jobs)
        assert (again.job.id, again.job.retry_count, again.attempt) == (claimed.job.id, 0, 2)

    def test_an_attempt_that_was_given_up_writes_nothing(self, jobs: QueueUnderTest) -> None:
        jobs.enqueued()
        first = take(jobs)
        jobs.reject(first.job.id)
        second = take(jobs)
        late = decide(first.job, Succeeded(result_data={}))
        assert jobs.run(claims(jobs).finish(first, late)) is False
        assert jobs.stored(first.job.id) == second.job
        assert jobs.run(claims(jobs).finish(second, replace(late, retry_count=1))) is True

    def test_a_job_of_an_unknown_type_waits_untouched_for_who_knows_it(self, jobs: QueueUnderTest) -> None:
        job = jobs.enqueued(max_retries=0)
        meet(jobs, job.id, ANOTHER_TYPE)
        waiting = jobs.run(jobs.adapter.get_record(job.id))
        assert waiting is not None
        assert (waiting.job.status, waiting.attempts) == (JobStatus.PENDING, ())
        assert str(waiting.job.error_message).startswith("NoHandler: ")
        known = KnownTypes(includes=job.job_type.__eq__, patience=900.0)
        claimed = jobs.run(claims(jobs).take(jobs.name, PATIENCE, known=known))
        assert claimed is not None
        assert (claimed.job.id, claimed.job.retry_count, claimed.attempt) == (job.id, 0, 1)

    def test_a_job_of_a_type_that_nobody_has_known_for_too_long_is_a_dead_letter(self, jobs: QueueUnderTest) -> None:
        job = jobs.enqueued()
        meet(jobs, job.id, replace(ANOTHER_TYPE, patience=0.0))
        ended = jobs.stored(job.id)
        assert (ended.status, ended.retry_count) == (JobStatus.DEAD_LETTER, 0)
        assert str(ended.error_message).startswith("UnknownJobType: ")
        assert jobs.none_comes()

    def test_who_does_not_know_a_type_is_given_the_next_job(self, jobs: QueueUnderTest) -> None:
        jobs.enqueued(job_type="report.daily", priority=9)
        job = jobs.enqueued()
        known = KnownTypes(includes=job.job_type.__eq__, patience=900.0)
        claimed = jobs.run(claims(jobs).take(jobs.name, PATIENCE, known=known))
        assert claimed is not None
        assert claimed.job.id == job.id

    def test_a_run_hears_that_its_job_was_cancelled(self, jobs: QueueUnderTest) -> None:
        jobs.enqueued()
        claimed = take(jobs)

        async def run() -> None:
            told = asyncio.Event()
            loop = asyncio.get_running_loop()

            def interrupt() -> None:
                loop.call_soon_threadsafe(told.set)

            with claims(jobs).held(claimed, interrupt):
                assert await jobs.adapter.cancel_job(claimed.job.id, running=True)
                async with asyncio.timeout(PATIENCE):
                    await told.wait()

        jobs.run(run())
        assert jobs.run(claims(jobs).finish(claimed, decide(claimed.job, Succeeded(result_data={})))) is False
