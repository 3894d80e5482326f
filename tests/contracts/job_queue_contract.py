"""What every job queue promises, whoever hands out its jobs.

A test class takes the contract over by inheriting from JobQueueContract, and gives a fixture ``jobs``, a
QueueUnderTest. What a queue does otherwise is said in ``queue_features``.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from portico_celery.exceptions import ResourceNotFoundError, StaleAttempt, ValidationError
from portico_celery.kits.job import JobService
from portico_celery.lifecycle import CANCELLED_MESSAGE
from portico_celery.ports.job import Job, JobStatus, QueueStats
from portico_celery.ports.job_reader import JobFilter
from tests.contracts.queues import A_MOMENT, PATIENCE, QueueUnderTest
from tests.waiting import eventually

SOON = 1.0
PULLERS, JOBS = 20, 100


def in_future(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def at(moment: datetime | None) -> datetime:
    assert moment is not None
    return moment


def dead(jobs: QueueUnderTest) -> Job:
    """A dead letter, as it is stored."""
    job = jobs.enqueued(max_retries=0)
    jobs.reject(jobs.take().id, error_message="the mail server hung up")
    assert jobs.status(job.id) is JobStatus.DEAD_LETTER
    return jobs.stored(job.id)


class Enqueueing:
    def test_a_new_job_is_pending_and_has_the_time_of_its_creation(self, jobs: QueueUnderTest) -> None:
        job = jobs.job(priority=3, max_retries=1, metadata={"trace": "0af7"}, created_by=uuid4())
        stored = jobs.enqueue(job)
        assert stored == replace(job, created_at=at(stored.created_at)) == jobs.stored(job.id)
        assert abs(at(stored.created_at) - in_future(0)) < timedelta(seconds=10)

    def test_a_job_whose_time_is_ahead_is_scheduled(self, jobs: QueueUnderTest) -> None:
        assert jobs.enqueued(scheduled_at=in_future(60)).status is JobStatus.SCHEDULED

    def test_a_job_whose_time_has_passed_is_pending_and_taken_at_once(self, jobs: QueueUnderTest) -> None:
        job = jobs.enqueued(scheduled_at=in_future(-60))
        assert job.status is JobStatus.PENDING
        assert jobs.take().id == job.id

    def test_a_payload_that_is_not_json_is_refused_and_nothing_is_stored(self, jobs: QueueUnderTest) -> None:
        job = jobs.job(payload={"stream": object()})
        with pytest.raises((TypeError, ValueError)):
            jobs.enqueue(job)
        assert jobs.run(jobs.adapter.get_job(job.id)) is None

    def test_what_a_caller_does_to_its_copy_does_not_reach_the_queue(self, jobs: QueueUnderTest) -> None:
        given = jobs.job(payload={"to": "zsofia"})
        copies = [given, jobs.enqueue(given), jobs.stored(given.id), jobs.take(), jobs.stored(given.id)]
        for copy in copies:
            copy.payload["scribbled"] = "on"
            copy.metadata["scribbled"] = "on"
        assert jobs.stored(given.id).payload == {"to": "zsofia"}
        assert jobs.stored(given.id).metadata == {}


class EnqueueingAgain:
    def test_a_new_job_of_a_known_id_changes_nothing(self, jobs: QueueUnderTest) -> None:
        job = jobs.enqueued()
        assert jobs.enqueue(replace(job, payload={"another": "payload"}, priority=9)) == job
        assert jobs.take().payload == job.payload
        assert jobs.none_comes()

    def test_a_new_job_of_a_dead_letters_id_changes_nothing(self, jobs: QueueUnderTest) -> None:
        job = dead(jobs)
        assert jobs.enqueue(replace(job, status=JobStatus.PENDING)) == job
        assert jobs.none_comes()

    @pytest.mark.parametrize("requeue", [True, False])
    def test_a_job_that_failed_starts_afresh_with_all_its_retries(self, jobs: QueueUnderTest, requeue: bool) -> None:
        job = jobs.enqueued(max_retries=1)
        jobs.reject(jobs.take().id)
        jobs.reject(jobs.take().id, requeue=requeue, error_message="no")
        failed = jobs.stored(job.id)
        assert failed.status is (JobStatus.DEAD_LETTER if requeue else JobStatus.FAILED)

        fresh = jobs.enqueue(failed)

        assert (fresh.status, fresh.retry_count, fresh.failed_at) == (JobStatus.PENDING, 0, None)
        assert fresh.error_message is None
        assert jobs.take().retry_count == 0
        jobs.reject(job.id)
        assert jobs.status(job.id) is JobStatus.RETRYING

    def test_a_dead_letter_of_old_changes_nothing_once_it_runs_again(self, jobs: QueueUnderTest) -> None:
        job = dead(jobs)
        jobs.enqueue(job)
        running = jobs.take()
        assert jobs.enqueue(job) == running
        assert jobs.none_comes()

    def test_a_dead_letter_enqueued_twice_runs_once(self, jobs: QueueUnderTest) -> None:
        job = dead(jobs)
        for _ in range(2):
            jobs.enqueue(job)
        assert jobs.take().id == job.id
        assert jobs.none_comes()


class Dequeueing:
    def test_a_job_that_was_taken_runs(self, jobs: QueueUnderTest) -> None:
        job = jobs.enqueued(max_retries=2, priority=1)
        taken = jobs.take()
        assert taken == replace(job, status=JobStatus.RUNNING, started_at=at(taken.started_at))
        assert jobs.stored(job.id) == taken

    def test_a_job_is_taken_once(self, jobs: QueueUnderTest) -> None:
        jobs.enqueued()
        jobs.take()
        assert jobs.none_comes()

    def test_an_empty_queue_answers_none_after_the_timeout(self, jobs: QueueUnderTest) -> None:
        began = time.monotonic()
        assert jobs.dequeue(A_MOMENT) is None
        assert A_MOMENT <= time.monotonic() - began < PATIENCE

    def test_without_time_it_looks_once(self, jobs: QueueUnderTest) -> None:
        assert jobs.dequeue(0) is None
        job = jobs.enqueued()
        # On a busy machine a look may be over before it has seen anything.
        found = eventually(lambda: jobs.dequeue(0), PATIENCE, "a look that finds the job")
        assert found is not None
        assert found.id == job.id

    def test_another_queues_jobs_are_not_taken(self, jobs: QueueUnderTest) -> None:
        other = jobs.enqueued(queue_name=f"{jobs.name}-other")
        assert jobs.none_comes()
        found = jobs.run(jobs.adapter.dequeue(other.queue_name, PATIENCE))
        assert found is not None
        assert found.id == other.id

    def test_an_empty_queue_name_is_refused(self, jobs: QueueUnderTest) -> None:
        with pytest.raises(ValidationError, match="queue_name"):
            jobs.run(jobs.adapter.dequeue("", 0))

    def test_higher_priorities_come_first_and_then_the_oldest(self, jobs: QueueUnderTest) -> None:
        chances = random.Random(7)  # noqa: S311  # a repeatable shuffle
        order = [priority for priority in jobs.features.priorities for _ in range(3)]
        chances.shuffle(order)
        created = [jobs.enqueued(priority=priority) for priority in order]
        taken = [jobs.take().id for _ in created]
        assert taken == [job.id for job in sorted(created, key=lambda job: -job.priority)]

    def test_any_integer_is_a_priority(self, jobs: QueueUnderTest) -> None:
        created = [jobs.enqueued(priority=priority) for priority in (-(2**31), -1, 11, 255, 256, 2**31 - 1)]
        assert {jobs.take().id for _ in created} == {job.id for job in created}

    def test_a_job_that_is_tried_again_keeps_its_place_where_the_queue_can(self, jobs: QueueUnderTest) -> None:
        first, second = jobs.enqueued(), jobs.enqueued()
        jobs.reject(jobs.take().id)
        jobs.settled()
        expected = first if jobs.features.retries_keep_their_place else second
        assert jobs.take().id == expected.id

    def test_a_scheduled_job_is_never_early_and_comes_by_itself(self, jobs: QueueUnderTest) -> None:
        job = jobs.enqueued(scheduled_at=in_future(SOON))
        taken = jobs.take()
        assert taken.id == job.id
        assert at(taken.started_at) >= at(job.scheduled_at)

    def test_a_caller_that_waits_gets_a_job_as_soon_as_there_is_one(self, jobs: QueueUnderTest) -> None:
        async def wait() -> tuple[Job | None, Job]:
            waiting = asyncio.create_task(jobs.adapter.dequeue(jobs.name, 60))
            # The job comes once the caller waits.
            await asyncio.wait([waiting], timeout=A_MOMENT)
            assert not waiting.done()
            created = await jobs.adapter.enqueue(jobs.job())
            async with asyncio.timeout(PATIENCE):
                return await waiting, created

        taken, created = jobs.run(wait())
        assert taken is not None
        assert taken.id == created.id

    def test_many_callers_take_each_job_once(self, jobs: QueueUnderTest) -> None:
        taken: list[UUID] = []

        async def pull(enough: asyncio.Event) -> None:
            while not enough.is_set():
                job = await jobs.adapter.dequeue(jobs.name, A_MOMENT)
                if job is not None:
                    taken.append(job.id)
                    await jobs.adapter.acknowledge(job.id)
                if len(taken) >= JOBS:
                    enough.set()

        async def all_at_once() -> list[UUID]:
            enough = asyncio.Event()
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                for _ in range(PULLERS):
                    group.create_task(pull(enough))
                return [(await jobs.adapter.enqueue(jobs.job())).id for _ in range(JOBS)]

        created = jobs.run(all_at_once())
        assert Counter(taken) == Counter(created)
        assert jobs.run(jobs.adapter.get_queue_stats(jobs.name)).completed_count == JOBS


class CancellingDequeue:
    def test_a_caller_that_gives_up_loses_no_job(self, jobs: QueueUnderTest) -> None:
        chances = random.Random(11)  # noqa: S311  # repeatable moments
        rounds = 40

        async def give_up_at_any_moment() -> list[Job]:
            taken = []
            for _ in range(rounds):
                waiting = asyncio.create_task(jobs.adapter.dequeue(jobs.name, PATIENCE))
                await asyncio.sleep(chances.choice([0, 0.001]))
                enqueueing = asyncio.create_task(jobs.adapter.enqueue(jobs.job()))
                await asyncio.sleep(chances.choice([0, 0, chances.uniform(0, 0.02)]))
                waiting.cancel()
                (job,) = await asyncio.gather(waiting, return_exceptions=True)
                if isinstance(job, Job):
                    taken.append(job)
                await enqueueing
            return taken

        taken = jobs.run(give_up_at_any_moment())
        jobs.settled()
        while len(taken) < rounds:
            taken.append(jobs.take())
        assert len({job.id for job in taken}) == rounds
        assert {job.retry_count for job in taken} == {0}
        assert jobs.none_comes()

    def test_a_job_goes_to_another_caller_where_the_first_has_given_up(self, jobs: QueueUnderTest) -> None:
        async def give_up() -> tuple[Job | None, Job]:
            first, second = (asyncio.create_task(jobs.adapter.dequeue(jobs.name, 4 * PATIENCE)) for _ in range(2))
            await asyncio.wait([first, second], timeout=A_MOMENT)
            enqueueing = asyncio.create_task(jobs.adapter.enqueue(jobs.job()))
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.wait([first])
            async with asyncio.timeout(PATIENCE):
                taken = await second if first.cancelled() else first.result()
            second.cancel()
            return taken, await enqueueing

        taken, created = jobs.run(give_up())
        assert taken is not None
        assert taken.id == created.id


class Acknowledging:
    @pytest.mark.parametrize("as_given", [UUID, str])
    def test_a_job_that_was_taken_is_completed(self, jobs: QueueUnderTest, as_given: type) -> None:
        job = jobs.enqueued()
        jobs.acknowledge(as_given(str(jobs.take().id)))
        ended = jobs.stored(job.id)
        assert ended.status is JobStatus.COMPLETED
        assert at(ended.completed_at) >= at(ended.started_at)
        assert jobs.none_comes()


class Rejecting:
    def test_a_job_comes_back_at_once_with_one_retry_spent(self, jobs: QueueUnderTest) -> None:
        job = jobs.enqueued()
        jobs.reject(jobs.take().id, error_message="the mail server hung up")
        waiting = jobs.stored(job.id)
        assert (waiting.status, waiting.retry_count) == (JobStatus.RETRYING, 1)
        assert waiting.error_message == "the mail server hung up"
        again = jobs.take()
        assert (again.id, again.status, again.retry_count) == (job.id, JobStatus.RUNNING, 1)

    def test_the_fourth_rejection_of_a_job_with_three_retries_is_its_last(self, jobs: QueueUnderTest) -> None:
        job = jobs.enqueued(max_retries=3)
        for retry_count in range(4):
            taken = jobs.take()
            assert (taken.id, taken.retry_count) == (job.id, retry_count)
            jobs.reject(job.id, requeue=True, error_message=f"failure {retry_count}")
        ended = jobs.stored(job.id)
        assert (ended.status, ended.retry_count) == (JobStatus.DEAD_LETTER, 3)
        assert ended.error_message == "failure 3"
        assert at(ended.failed_at) >= at(ended.started_at)
        assert jobs.none_comes()

    def test_a_job_without_retries_is_a_dead_letter_at_once(self, jobs: QueueUnderTest) -> None:
        assert dead(jobs).retry_count == 0
        assert jobs.none_comes()

    def test_a_job_that_is_not_to_be_requeued_has_failed(self, jobs: QueueUnderTest) -> None:
        job = jobs.enqueued(max_retries=3)
        jobs.reject(jobs.take().id, requeue=False, error_message="no address")
        ended = jobs.stored(job.id)
        assert (ended.status, ended.retry_count, ended.error_message) == (JobStatus.FAILED, 0, "no address")
        assert ended.failed_at is not None
        assert jobs.none_comes()

    def test_a_retry_comes_after_its_delay_and_not_before(self, jobs: QueueUnderTest) -> None:
        jobs.enqueued()
        first = jobs.take()
        jobs.reject(first.id, retry_delay=SOON)
        second = jobs.take()
        assert at(second.started_at) - at(first.started_at) >= timedelta(seconds=SOON)

    def test_a_job_that_was_retried_may_be_completed(self, jobs: QueueUnderTest) -> None:
        job = jobs.enqueued()
        jobs.reject(jobs.take().id, error_message="once")
        jobs.acknowledge(jobs.take().id)
        ended = jobs.stored(job.id)
        assert (ended.status, ended.retry_count, ended.error_message) == (JobStatus.COMPLETED, 1, "once")


class Cancelling:
    @pytest.mark.parametrize("ahead", [None, SOON])
    def test_a_job_that_has_not_started_is_never_run(self, jobs: QueueUnderTest, ahead: float | None) -> None:
        job = jobs.enqueued(scheduled_at=None if ahead is None else in_future(ahead))
        assert jobs.cancel(job.id) is True
        assert jobs.cancel(job.id) is False
        ended = jobs.stored(job.id)
        assert (ended.status, ended.error_message) == (JobStatus.FAILED, CANCELLED_MESSAGE)
        assert ended.failed_at is not None
        assert jobs.dequeue(A_MOMENT + (ahead or 0)) is None

    @pytest.mark.parametrize("delay", [0.0, SOON])
    def test_a_job_that_waits_for_its_retry_is_never_run_again(self, jobs: QueueUnderTest, delay: float) -> None:
        job = jobs.enqueued()
        jobs.reject(jobs.take().id, retry_delay=delay)
        assert jobs.cancel(str(job.id)) is True
        assert jobs.stored(job.id).error_message == CANCELLED_MESSAGE
        assert jobs.dequeue(A_MOMENT + delay) is None

    def test_a_job_that_runs_is_cancelled_only_where_it_is_asked_for(self, jobs: QueueUnderTest) -> None:
        job = jobs.enqueued()
        jobs.take()
        assert jobs.cancel(job.id) is False
        assert jobs.status(job.id) is JobStatus.RUNNING
        assert jobs.cancel(job.id, running=True) is True
        ended = jobs.stored(job.id)
        assert (ended.status, ended.error_message) == (JobStatus.FAILED, CANCELLED_MESSAGE)
        with pytest.raises(StaleAttempt):
            jobs.acknowledge(job.id)

    def test_a_job_that_has_ended_is_not_cancelled(self, jobs: QueueUnderTest) -> None:
        job = jobs.enqueued()
        jobs.acknowledge(jobs.take().id)
        assert jobs.cancel(job.id, running=True) is False
        assert jobs.status(job.id) is JobStatus.COMPLETED

    def test_a_cancelled_job_may_be_requeued(self, jobs: QueueUnderTest) -> None:
        job = jobs.enqueued()
        jobs.cancel(job.id)
        jobs.enqueue(jobs.stored(job.id))
        assert jobs.take().id == job.id


class Counting:
    def test_a_queue_counts_its_jobs_by_state(self, jobs: QueueUnderTest) -> None:
        dead(jobs)
        for settle in (jobs.acknowledge, lambda job_id: jobs.reject(job_id, requeue=False)):
            jobs.enqueued()
            settle(jobs.take().id)
        jobs.enqueued()
        jobs.reject(jobs.take().id, retry_delay=60)
        jobs.enqueued()
        jobs.take()
        jobs.enqueued(scheduled_at=in_future(60))
        jobs.enqueued()
        jobs.enqueued(queue_name=f"{jobs.name}-other")

        assert jobs.run(jobs.adapter.get_queue_stats(jobs.name)) == QueueStats(
            queue_name=jobs.name,
            pending_count=3,
            running_count=1,
            completed_count=1,
            failed_count=1,
            dead_letter_count=1,
        )

    def test_an_unknown_queue_is_empty(self, jobs: QueueUnderTest) -> None:
        assert jobs.run(jobs.adapter.get_queue_stats(jobs.name)) == QueueStats(jobs.name, 0, 0, 0, 0, 0)


class BadInput:
    def test_an_unknown_job_is_not_found(self, jobs: QueueUnderTest) -> None:
        with pytest.raises(ResourceNotFoundError):
            jobs.acknowledge(uuid4())
        with pytest.raises(ResourceNotFoundError):
            jobs.reject(uuid4())
        assert jobs.run(jobs.adapter.get_job(uuid4())) is None
        assert jobs.cancel(uuid4()) is False
        assert jobs.cancel(uuid4(), running=True) is False

    def test_a_job_that_does_not_run_is_not_settled(self, jobs: QueueUnderTest) -> None:
        job = jobs.enqueued()
        with pytest.raises(StaleAttempt):
            jobs.acknowledge(job.id)
        with pytest.raises(StaleAttempt):
            jobs.reject(job.id)
        assert jobs.stored(job.id) == job

    def test_a_job_is_settled_once(self, jobs: QueueUnderTest) -> None:
        job = jobs.enqueued()
        jobs.acknowledge(jobs.take().id)
        ended = jobs.stored(job.id)
        with pytest.raises(StaleAttempt):
            jobs.acknowledge(job.id)
        with pytest.raises(StaleAttempt):
            jobs.reject(job.id)
        assert jobs.stored(job.id) == ended

    @pytest.mark.parametrize("method", ["acknowledge", "reject", "get_job", "cancel_job"])
    def test_an_id_that_is_none_is_refused(self, jobs: QueueUnderTest, method: str) -> None:
        with pytest.raises(ValidationError, match="job_id"):
            jobs.run(getattr(jobs.adapter, method)("seven"))


class OpeningAndClosing:
    def test_both_may_be_done_twice(self, jobs: QueueUnderTest) -> None:
        for _ in range(2):
            jobs.run(jobs.adapter.initialize())
        job = jobs.enqueued()
        for _ in range(2):
            jobs.run(jobs.adapter.close())
        assert jobs.stored(job.id) == job

    def test_it_works_in_one_event_loop_after_another(self, jobs: QueueUnderTest) -> None:
        jobs.enqueued()
        for _ in range(2):
            job = asyncio.run(jobs.adapter.dequeue(jobs.name, PATIENCE))
            assert job is not None
            asyncio.run(jobs.adapter.reject(job.id))

    def test_another_instance_takes_and_settles_where_the_queue_is_shared(self, jobs: QueueUnderTest) -> None:
        assert (jobs.another is not None) is jobs.features.shared
        if jobs.another is None:
            return
        other = jobs.another()
        job = jobs.enqueued()
        taken = jobs.run(other.dequeue(jobs.name, PATIENCE))
        assert taken is not None
        jobs.acknowledge(taken.id)
        assert jobs.status(job.id) is JobStatus.COMPLETED


class BeyondThePort:
    def test_many_jobs_are_stored_at_once_and_said_to_be_new_or_known(self, jobs: QueueUnderTest) -> None:
        known = jobs.enqueued()
        batch = [jobs.job(), known, jobs.job()]
        answers = jobs.run(jobs.adapter.enqueue_all(batch))
        assert [(job.id, created) for job, created in answers] == [
            (batch[0].id, True),
            (known.id, False),
            (batch[2].id, True),
        ]
        assert {jobs.take().id for _ in batch} == {job.id for job in batch}

    def test_the_history_of_a_job_is_kept(self, jobs: QueueUnderTest) -> None:
        job = jobs.enqueued()
        jobs.reject(jobs.take().id, error_message="once")
        jobs.acknowledge(jobs.take().id)
        record = jobs.run(jobs.adapter.get_record(job.id))
        assert record is not None
        assert record.job == jobs.stored(job.id)
        assert [(attempt.number, attempt.error) for attempt in record.attempts] == [(1, "once"), (2, None)]

    def test_who_has_lost_a_job_can_not_settle_the_attempt_of_who_has_it_now(self, jobs: QueueUnderTest) -> None:
        if jobs.another is None:
            return  # nobody else is there who could have it: see `shared` among the features
        other = jobs.another()
        job = jobs.enqueued()
        jobs.take()
        jobs.run(other.reject(job.id))
        again = jobs.run(other.dequeue(jobs.name, PATIENCE))
        assert again is not None
        with pytest.raises(StaleAttempt):
            jobs.acknowledge(job.id)
        assert jobs.stored(job.id) == again
        jobs.run(other.acknowledge(job.id))
        assert jobs.status(job.id) is JobStatus.COMPLETED

    def test_jobs_are_listed_by_queue_and_state(self, jobs: QueueUnderTest) -> None:
        first, second = jobs.enqueued(), jobs.enqueued()
        jobs.cancel(first.id)
        wanted = JobFilter(queue_name=jobs.name, status=JobStatus.PENDING)
        assert jobs.run(jobs.adapter.list_jobs(wanted)).jobs == (second,)
        with pytest.raises(ValidationError, match="limit"):
            jobs.run(jobs.adapter.list_jobs(replace(wanted, limit=0)))

    def test_a_dead_letter_is_requeued_once_and_runs(self, jobs: QueueUnderTest) -> None:
        job = dead(jobs)
        service = JobService(jobs.adapter)
        assert jobs.run(service.requeue_job(job.id)) is True
        assert jobs.run(service.requeue_job(job.id)) is False
        assert jobs.take().id == job.id

    def test_a_dead_letter_is_discarded_once(self, jobs: QueueUnderTest) -> None:
        job = dead(jobs)
        service = JobService(jobs.adapter)
        assert jobs.run(service.discard_job(job.id)) is True
        assert jobs.run(service.discard_job(job.id)) is False
        assert jobs.run(jobs.adapter.get_job(job.id)) is None


class JobQueueContract(
    Enqueueing,
    EnqueueingAgain,
    Dequeueing,
    CancellingDequeue,
    Acknowledging,
    Rejecting,
    Cancelling,
    Counting,
    BadInput,
    OpeningAndClosing,
    BeyondThePort,
):
    """All that a job queue promises."""
