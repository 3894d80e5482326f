"""What the job queue in memory does beyond its contract: leases, and waiting."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4

import pytest

from portico_celery.adapters.job_queue.memory_queue import MemoryJobQueueAdapter
from portico_celery.adapters.job_queue.ready_jobs import ReadyJobs
from portico_celery.adapters.job_store.memory_store import MemoryJobStore
from portico_celery.exceptions import StaleAttempt
from portico_celery.kits.job import JobService
from portico_celery.lifecycle import RetryPolicy
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_store import DEFAULT_RESULT_TTL, ClaimedJob

T = TypeVar("T")

LEASE = 30.0
QUEUE = "default"
AT_ONCE = RetryPolicy(base_delay=0.0)
PATIENCE = 20.0


def done(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


@dataclass
class Clock:
    """The store's clock, which the tests turn; ``looks`` is how often it was read."""

    offset: timedelta = timedelta()
    looks: int = 0

    def __call__(self) -> datetime:
        self.looks += 1
        return datetime.now(UTC) + self.offset

    def advance(self, seconds: float) -> None:
        self.offset += timedelta(seconds=seconds)


@dataclass
class Queue:
    clock: Clock = field(default_factory=Clock)
    retry_policy: RetryPolicy = AT_ONCE

    def __post_init__(self) -> None:
        self.adapter = MemoryJobQueueAdapter(
            lease_seconds=LEASE, retry_policy=self.retry_policy, store=MemoryJobStore(now=self.clock)
        )

    def enqueue(self, **fields: Any) -> Job:
        return done(self.adapter.enqueue(Job(**{**BLANK, "id": uuid4(), **fields})))

    def dequeue(self, timeout: float = 0) -> Job | None:
        return done(self.adapter.dequeue(QUEUE, timeout))

    def take(self) -> ClaimedJob:
        claimed = done(self.adapter.take(QUEUE, 0))
        assert claimed is not None
        return claimed

    def take_after_a_lease(self) -> ClaimedJob:
        self.clock.advance(LEASE * 1.5)
        return self.take()

    def stored(self, job: Job) -> Job:
        found = done(self.adapter.get_job(job.id))
        assert found is not None
        return found


BLANK: dict[str, Any] = {"queue_name": QUEUE, "job_type": "email.send", "payload": {}}


@pytest.fixture
def queue() -> Queue:
    return Queue()


class TestLeases:
    def test_a_job_that_is_never_settled_comes_back_after_its_lease_and_has_spent_a_retry(self, queue: Queue) -> None:
        job = queue.enqueue(max_retries=1)
        queue.take()
        queue.clock.advance(LEASE / 2)
        assert queue.dequeue() is None
        queue.clock.advance(LEASE)
        again = queue.dequeue()
        assert again is not None
        assert (again.id, again.retry_count) == (job.id, 1)
        assert "WorkerLost" in (again.error_message or "")

    def test_it_comes_back_after_its_backoff(self) -> None:
        queue = Queue(retry_policy=RetryPolicy(base_delay=10.0, jitter=0.0))
        job = queue.enqueue()
        queue.take()
        queue.clock.advance(LEASE + 1)
        assert queue.dequeue() is None
        assert queue.stored(job).status is JobStatus.RETRYING
        queue.clock.advance(11)
        assert queue.dequeue() is not None

    def test_a_caller_that_waits_gets_a_job_whose_lease_ends_meanwhile(self) -> None:
        adapter = MemoryJobQueueAdapter(lease_seconds=0.3, retry_policy=AT_ONCE)
        job = done(adapter.enqueue(Job(**BLANK, id=uuid4())))
        done(adapter.take(QUEUE, 0))
        again = done(adapter.dequeue(QUEUE, PATIENCE))
        assert again is not None
        assert (again.id, again.retry_count) == (job.id, 1)

    def test_a_job_without_retries_is_a_dead_letter_that_is_not_handed_out(self, queue: Queue) -> None:
        job = queue.enqueue(max_retries=0)
        queue.take()
        queue.clock.advance(LEASE * 1.5)
        assert queue.dequeue() is None
        assert queue.stored(job).status is JobStatus.DEAD_LETTER

    def test_a_dead_letter_that_only_callers_meet_who_can_not_tell_its_handler_is_forgotten_in_the_end(
        self, queue: Queue
    ) -> None:
        job = queue.enqueue(max_retries=0)
        queue.take()
        queue.clock.advance(LEASE * 1.5)
        for _ in range(40):
            assert queue.dequeue() is None
            queue.clock.advance(60)
        assert done(queue.adapter.take(QUEUE, 0)) is None, "it is still handed to whoever might tell its handler"
        queue.clock.advance(DEFAULT_RESULT_TTL)
        assert queue.dequeue() is None
        assert done(queue.adapter.get_job(job.id)) is None

    def test_a_job_that_was_dequeued_stays_with_its_caller(self, queue: Queue) -> None:
        job = queue.enqueue()
        assert queue.dequeue() is not None
        for _ in range(3):
            queue.clock.advance(LEASE * 1.5)
            assert queue.dequeue() is None
        done(queue.adapter.acknowledge(job.id))
        assert queue.stored(job).status is JobStatus.COMPLETED

    def test_a_job_whose_run_is_gone_comes_back(self, queue: Queue) -> None:
        job = queue.enqueue()
        with queue.adapter.held(queue.take(), lambda: None, can_go_on=lambda: False):
            queue.clock.advance(LEASE * 1.5)
            again = queue.dequeue()
        assert again is not None
        assert (again.id, again.retry_count) == (job.id, 1)

    def test_a_worker_gets_a_dead_letter_whose_handler_has_not_heard_until_it_has(self, queue: Queue) -> None:
        job = queue.enqueue(max_retries=0)
        queue.take()
        lost = [queue.take_after_a_lease() for _ in range(2)]
        for claimed in lost:
            assert (claimed.job.id, claimed.job.status) == (job.id, JobStatus.DEAD_LETTER)
            assert "WorkerLost" in (claimed.lost_error or "")
        done(queue.adapter.settle_loss(lost[-1]))
        queue.clock.advance(LEASE * 1.5)
        assert done(queue.adapter.take(QUEUE, 0)) is None

    def test_a_job_that_is_held_keeps_its_lease(self, queue: Queue) -> None:
        job = queue.enqueue()
        claimed = queue.take()
        with queue.adapter.held(claimed, lambda: None):
            for _ in range(3):
                queue.clock.advance(LEASE * 1.5)
                assert queue.dequeue() is None
        done(queue.adapter.acknowledge(job.id))
        assert queue.stored(job).status is JobStatus.COMPLETED

    def test_a_job_that_is_held_no_more_loses_its_lease(self, queue: Queue) -> None:
        queue.enqueue()
        with queue.adapter.held(queue.take(), lambda: None):
            queue.clock.advance(LEASE * 1.5)
            assert queue.dequeue() is None
        queue.clock.advance(LEASE * 1.5)
        assert queue.dequeue() is not None

    def test_who_was_given_up_can_not_settle_the_job_once_it_has_ended(self, queue: Queue) -> None:
        job = queue.enqueue(max_retries=0)
        queue.take()
        queue.clock.advance(LEASE * 1.5)
        queue.dequeue()
        with pytest.raises(StaleAttempt):
            done(queue.adapter.acknowledge(job.id))


class TestWaiting:
    def test_a_caller_that_waits_does_not_poll(self, queue: Queue) -> None:
        async def wait() -> int:
            waiting = asyncio.create_task(queue.adapter.dequeue(QUEUE, 60))
            await asyncio.wait([waiting], timeout=0.1)
            before = queue.clock.looks
            await asyncio.wait([waiting], timeout=0.4)
            waiting.cancel()
            return queue.clock.looks - before

        assert done(wait()) == 0

    def test_a_job_from_another_thread_wakes_a_caller(self, queue: Queue) -> None:
        async def wait() -> Job | None:
            waiting = asyncio.create_task(queue.adapter.dequeue(QUEUE, 60))
            await asyncio.wait([waiting], timeout=0.1)
            thread = threading.Thread(target=queue.enqueue)
            thread.start()
            async with asyncio.timeout(PATIENCE):
                job = await waiting
            thread.join()
            return job

        assert done(wait()) is not None

    def test_a_caller_whose_event_loop_has_ended_is_passed_over(self, queue: Queue) -> None:
        loop = asyncio.new_event_loop()
        forgotten = loop.create_task(queue.adapter.dequeue(QUEUE, 60))
        loop.call_later(0.1, loop.stop)
        loop.run_forever()
        loop.close()

        async def wait() -> Job | None:
            waiting = asyncio.create_task(queue.adapter.dequeue(QUEUE, 60))
            await asyncio.wait([waiting], timeout=0.1)
            await queue.adapter.enqueue(Job(**BLANK, id=uuid4()))
            async with asyncio.timeout(PATIENCE):
                return await waiting

        assert done(wait()) is not None
        forgotten._log_destroy_pending = False  # type: ignore[attr-defined]  # that is what is being tested

    def test_threads_with_event_loops_of_their_own_take_each_job_once(self, queue: Queue) -> None:
        taken: list[Job] = []
        count = 200

        def pull() -> None:
            async def until_all_are_taken() -> None:
                async with asyncio.timeout(PATIENCE):
                    while len(taken) < count:
                        if (job := await queue.adapter.dequeue(QUEUE, 0.2)) is not None:
                            taken.append(job)

            done(until_all_are_taken())

        threads = [threading.Thread(target=pull) for _ in range(4)]
        for thread in threads:
            thread.start()
        created = [queue.enqueue() for _ in range(count)]
        for thread in threads:
            thread.join()
        assert sorted(job.id for job in taken) == sorted(job.id for job in created)

    def test_a_scheduled_job_enqueued_meanwhile_wakes_a_caller_at_its_time(self, queue: Queue) -> None:
        async def wait() -> tuple[Job | None, Job]:
            waiting = asyncio.create_task(queue.adapter.dequeue(QUEUE, 60))
            await asyncio.wait([waiting], timeout=0.1)
            at = datetime.now(UTC) + timedelta(seconds=0.3)
            job = await queue.adapter.enqueue(Job(**BLANK, id=uuid4(), scheduled_at=at))
            async with asyncio.timeout(PATIENCE):
                return await waiting, job

        taken, job = done(wait())
        assert taken is not None
        assert taken.started_at is not None
        assert job.scheduled_at is not None
        assert taken.started_at >= job.scheduled_at

    def test_many_jobs_are_handed_out_in_no_time(self, queue: Queue) -> None:
        async def pull() -> int:
            for _ in range(3_000):
                await queue.adapter.enqueue(Job(**BLANK, id=uuid4()))
            count = 0
            while (job := await queue.adapter.dequeue(QUEUE, 0)) is not None:
                await queue.adapter.acknowledge(job.id)
                count += 1
            return count

        began = time.monotonic()
        assert done(pull()) == 3_000
        assert time.monotonic() - began < PATIENCE  # looking through all jobs for each takes minutes


class TestTheRest:
    def test_jobs_created_at_the_same_moment_keep_the_order_of_their_coming(self) -> None:
        moment = datetime(2030, 1, 2, tzinfo=UTC)
        ready = ReadyJobs()
        jobs = [Job(**BLANK, id=uuid4(), created_at=moment) for _ in range(20)]
        for job in jobs:
            ready.add(job)
        assert [ready.pop(QUEUE) for _ in jobs] == [(job.id, job.job_type) for job in jobs]

    def test_what_ended_long_ago_is_deleted(self, queue: Queue) -> None:
        job = queue.enqueue()
        queue.dequeue()
        done(queue.adapter.acknowledge(job.id))
        queue.clock.advance(DEFAULT_RESULT_TTL * 1.01)
        queue.dequeue()
        assert done(queue.adapter.get_job(job.id)) is None

    def test_a_service_may_be_driven_without_an_event_loop(self, queue: Queue) -> None:
        assert JobService(queue.adapter).needs_event_loop is False
