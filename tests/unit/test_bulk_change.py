"""Changing many jobs: how many a step takes, how long it pauses, and what is left alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest

from portico_celery.exceptions import StoreUnavailable, ValidationError
from portico_celery.kits.job import JobService, SyncJobService
from portico_celery.kits.job.bulk_change import MOST_AT_ONCE, Pace, meant
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import JobFilter, JobPage
from portico_celery.utils.logging import fields_of
from tests.unit.queue_in_memory import QueueInMemory

T = TypeVar("T")

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
FOR_EVER = 1e-6  # so many a second take for ever


class TestPace:
    @pytest.mark.parametrize(
        ("limit", "per_second", "done", "size"),
        [
            (None, None, 0, MOST_AT_ONCE),
            (None, None, 10**6, MOST_AT_ONCE),
            (10, None, 0, 10),
            (10, None, 7, 3),
            (10, None, 10, 0),
            (None, 50, 0, 5),
            (None, 7, 0, 1),
            (None, 0.5, 0, 1),
            (None, 10**9, 0, MOST_AT_ONCE),
            (3, 50, 0, 3),
        ],
    )
    def test_a_step_takes_no_more_than_its_share(
        self, limit: int | None, per_second: float | None, done: int, size: int
    ) -> None:
        assert Pace(limit=limit, per_second=per_second).step_size(done) == size

    @pytest.mark.parametrize(
        ("per_second", "changed", "seconds", "pause"),
        [
            (None, 200, 0.0, 0.0),
            (50, 5, 0.0, 0.1),
            (50, 5, 0.04, 0.06),
            (50, 5, 3.0, 0.0),
            (0.5, 1, 0.0, 2.0),
            (5, 0, 0, 0),
        ],
    )
    def test_the_pause_makes_up_what_a_step_was_too_fast(
        self, per_second: float | None, changed: int, seconds: float, pause: float
    ) -> None:
        assert Pace(per_second=per_second).pause_after(changed, seconds) == pytest.approx(pause)

    @pytest.mark.parametrize("per_second", [3, 7, 50, 64.5, 999, 10**5])
    def test_in_no_second_there_are_more_than_asked_for_but_for_one_step(self, per_second: float) -> None:
        pace = Pace(per_second=per_second)
        size = pace.step_size(0)
        steps_in_a_second = 1 + int(1 / pace.pause_after(size, 0.0))
        assert size * steps_in_a_second <= per_second + size

    @pytest.mark.parametrize("limit", [0, -1, 1.5, "10", True])
    def test_a_limit_that_can_not_be_is_refused(self, limit: Any) -> None:
        with pytest.raises(ValidationError, match="limit must be a whole number from 1"):
            Pace(limit=limit)

    @pytest.mark.parametrize("per_second", [0, -1, float("nan"), float("inf"), "10", True])
    def test_a_rate_that_can_not_be_is_refused(self, per_second: Any) -> None:
        with pytest.raises(ValidationError, match="per_second must be a number above 0"):
            Pace(per_second=per_second)


class TestWhoIsMeant:
    def test_dead_letters_that_are_dead_by_now(self) -> None:
        wanted = meant(JobFilter(queue_name="mail"), NOW)
        a_moment_later = NOW + timedelta(microseconds=1)
        assert wanted == JobFilter(queue_name="mail", status=JobStatus.DEAD_LETTER, ended_until=a_moment_later)

    def test_a_status_that_is_named_is_kept(self) -> None:
        assert meant(JobFilter(status=JobStatus.FAILED), NOW).status is JobStatus.FAILED

    def test_jobs_that_are_named_may_be_in_any_state(self) -> None:
        assert meant(JobFilter(job_ids=(UUID(int=7),)), NOW).status is None

    def test_an_earlier_end_of_the_range_is_kept_and_a_later_one_is_not(self) -> None:
        assert meant(JobFilter(ended_until=NOW - HOUR), NOW).ended_until == NOW - HOUR
        until = meant(JobFilter(ended_until=NOW + HOUR), NOW).ended_until
        assert until is not None
        assert until < NOW + HOUR

    def test_a_range_that_is_ahead_means_nobody(self) -> None:
        wanted = meant(JobFilter(ended_since=NOW + HOUR), NOW)
        assert wanted.ended_since == wanted.ended_until

    @pytest.mark.parametrize("paging", [JobFilter(limit=10), JobFilter(cursor="7")])
    def test_a_filter_of_a_page_is_refused(self, paging: JobFilter) -> None:
        with pytest.raises(ValidationError, match="pass limit to this method"):
            meant(paging, NOW)


class WatchedQueue(QueueInMemory):
    """Counts its steps. In the step ``stop_in`` it waits for ``go_on``; the step ``fail_in`` fails."""

    def __init__(self) -> None:
        super().__init__(needs_event_loop=True)
        self.sizes: list[int] = []
        self.stop_in = self.fail_in = 0
        self.stopped, self.go_on = asyncio.Event(), asyncio.Event()

    async def requeue_jobs(self, job_filter: JobFilter) -> JobPage:
        if len(self.sizes) + 1 == self.fail_in:
            raise StoreUnavailable("the job store is away")
        page = await super().requeue_jobs(job_filter)
        self.sizes.append(len(page.jobs))
        if len(self.sizes) == self.stop_in:
            self.stopped.set()
            await self.go_on.wait()
        return page


def done(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


@pytest.fixture
def queue() -> WatchedQueue:
    return WatchedQueue()


@pytest.fixture
def service(queue: WatchedQueue) -> JobService:
    return JobService(queue)


async def cancelled_jobs(service: JobService, count: int) -> list[Job]:
    jobs = await service.create_jobs([{"job_type": "email.send", "payload": {}} for _ in range(count)])
    for job in jobs:
        await service.cancel_job(job.id)
    return jobs


CANCELLED = JobFilter(status=JobStatus.FAILED)


class TestChanging:
    def test_many_are_changed_in_small_steps_and_counted(self, service: JobService, queue: WatchedQueue) -> None:
        async def change() -> int:
            await cancelled_jobs(service, 450)
            return await service.requeue_jobs(CANCELLED)

        assert done(change()) == 450
        assert queue.sizes == [200, 200, 50]
        assert queue.store.stats("default").pending_count == 450

    def test_no_more_than_the_limit_are_changed_the_newest_first(self, service: JobService) -> None:
        async def change() -> tuple[int, set[UUID], set[UUID]]:
            jobs = await cancelled_jobs(service, 10)
            count = await service.discard_jobs(CANCELLED, limit=3)
            left = (await service.list_jobs(JobFilter())).jobs
            return count, {job.id for job in left}, {job.id for job in jobs[:7]}

        count, left, oldest = done(change())
        assert (count, left) == (3, oldest)

    def test_at_a_pace_the_steps_are_smaller(self, service: JobService, queue: WatchedQueue) -> None:
        async def change() -> int:
            await cancelled_jobs(service, 10)
            return await service.requeue_jobs(CANCELLED, per_second=40)

        assert done(change()) == 10
        assert queue.sizes == [4, 4, 2]

    def test_what_fails_again_meanwhile_is_left_to_the_next_call(self) -> None:
        class DyingAgain(WatchedQueue):
            async def requeue_jobs(self, job_filter: JobFilter) -> JobPage:
                page = await super().requeue_jobs(job_filter)
                # These, and others that the walk has still to come to.
                for job in [*page.jobs, *older]:
                    self.store.cancel(job.id)
                return page

        service = JobService(DyingAgain())
        older: list[Job] = []

        async def change() -> list[int]:
            older.extend(await service.create_jobs([{"job_type": "email.send", "payload": {}}] * 5))
            await cancelled_jobs(service, 5)
            return [await service.requeue_jobs(CANCELLED, per_second=1_000) for _ in range(2)]

        assert done(change()) == [5, 10]

    def test_a_cancellation_lets_the_step_end_and_says_how_many_were_done(
        self, service: JobService, queue: WatchedQueue, caplog: pytest.LogCaptureFixture
    ) -> None:
        queue.stop_in = 2

        async def change() -> list[str]:
            await cancelled_jobs(service, 600)
            task = asyncio.ensure_future(service.requeue_jobs(CANCELLED))
            await queue.stopped.wait()
            task.cancel()
            await asyncio.sleep(0)
            assert not task.done()
            queue.go_on.set()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            return caught.value.__notes__

        with caplog.at_level(logging.WARNING):
            assert done(change()) == ["400 jobs had been requeued by then"]
        assert queue.sizes == [200, 200]
        assert queue.store.stats("default").pending_count == 400
        [fields] = [fields for record in caplog.records if (fields := fields_of(record))]
        assert (fields["event"], fields["requeued"]) == ("bulk_change_ended_early", 400)

    def test_a_cancellation_ends_a_pause_at_once(self, service: JobService, queue: WatchedQueue) -> None:
        async def change() -> None:
            await cancelled_jobs(service, 2)
            await service.requeue_jobs(CANCELLED, per_second=FOR_EVER)

        async def give_up() -> None:
            async with asyncio.timeout(0.2):
                await change()

        with pytest.raises(TimeoutError):
            done(give_up())
        assert queue.sizes == [1]

    def test_there_is_no_pause_after_the_last_step(self, service: JobService, queue: WatchedQueue) -> None:
        async def change() -> int:
            await cancelled_jobs(service, 3)
            async with asyncio.timeout(30):
                return await service.requeue_jobs(CANCELLED, limit=1, per_second=FOR_EVER)

        assert done(change()) == 1
        assert queue.sizes == [1]

    def test_an_error_says_how_many_were_done(self, service: JobService, queue: WatchedQueue) -> None:
        queue.fail_in = 3

        async def change() -> None:
            await cancelled_jobs(service, 500)
            await service.requeue_jobs(CANCELLED)

        with pytest.raises(StoreUnavailable) as caught:
            done(change())
        assert caught.value.__notes__ == ["400 jobs had been requeued by then"]

    def test_bad_bounds_change_nothing(self, service: JobService, queue: WatchedQueue) -> None:
        async def change() -> None:
            await cancelled_jobs(service, 1)
            for options in ({"limit": 0}, {"per_second": 0}):
                with pytest.raises(ValidationError):
                    await service.requeue_jobs(CANCELLED, **options)
                with pytest.raises(ValidationError):
                    await service.discard_jobs(CANCELLED, **options)
            with pytest.raises(ValidationError):
                await service.requeue_jobs(replace(CANCELLED, limit=1))

        done(change())
        assert queue.sizes == []


@pytest.mark.parametrize("needs_event_loop", [False, True])
def test_synchronous_callers_change_many_too(needs_event_loop: bool) -> None:
    queue = QueueInMemory(needs_event_loop=needs_event_loop)
    sync = SyncJobService(JobService(queue))
    for job in sync.create_jobs([{"job_type": "email.send", "payload": {}}] * 3):
        sync.cancel_job(job.id)
    assert sync.requeue_jobs(CANCELLED, 2, per_second=100) == 2
    assert sync.discard_jobs(CANCELLED) == 1
    assert [job.status for job in queue.jobs] == [JobStatus.PENDING] * 2
