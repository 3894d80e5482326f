"""A worker within an application: what it takes, in which order, and what becomes of it."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from portico_celery.adapters.job_queue.memory_queue import MemoryJobQueueAdapter
from portico_celery.exceptions import ConfigurationError, StoreUnavailable, UnknownJobType, ValidationError, WorkerLost
from portico_celery.kits.job import WorkerManager, worker_slots
from portico_celery.lifecycle import RetryPolicy
from portico_celery.ports.job import Job, JobResult, JobStatus
from portico_celery.ports.job_handler import JobHandler
from portico_celery.ports.job_store import ClaimedJob, Transition
from portico_celery.utils.logging import fields_of
from tests.unit.nine_methods import PatientQueue, PorticosQueue
from tests.unit.working import AT_ONCE, ENDED, MAIL, PATIENCE, Handler, Workplace, a_job, forever, succeed, until

FORGOTTEN_BY_THEIR_LOOP: list[set[asyncio.Task[Any]]] = []
ERROR = ConnectionError("the mail server hung up")


async def fail(_job: Job) -> JobResult:
    raise ERROR.with_traceback(None)  # which earlier raising has left behind


async def decline(_job: Job) -> JobResult:
    return JobResult(success=False, error=ValueError("no address"))


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [fields["event"] for record in caplog.records if (fields := fields_of(record)) is not None]


QUEUES = [MemoryJobQueueAdapter, PorticosQueue, PatientQueue]
each_queue = pytest.mark.parametrize("make_queue", QUEUES)


class TestRunning:
    @each_queue
    def test_a_job_is_run_and_completed(self, make_queue: Any) -> None:
        work = Workplace(queue=make_queue())
        [job] = asyncio.run(work.run(a_job()))
        assert (job.status, job.retry_count) == (JobStatus.COMPLETED, 0)
        assert [started.id for started in work.handler.started] == [job.id]
        assert work.handler.started[0].status is JobStatus.RUNNING

    def test_what_the_handler_reports_is_stored(self) -> None:
        work = Workplace()
        [job] = asyncio.run(work.run(a_job()))
        record = asyncio.run(work.queue.get_record(job.id))
        assert record is not None
        assert record.result_data == {"to": "zsofia"}

    @each_queue
    def test_a_job_that_always_fails_is_tried_until_its_retries_are_spent(self, make_queue: Any) -> None:
        work = Workplace(Handler(work=fail), make_queue())
        [job] = asyncio.run(work.run(a_job(max_retries=2)))
        assert (job.status, job.retry_count) == (JobStatus.DEAD_LETTER, 2)
        assert job.error_message == "ConnectionError: the mail server hung up"
        assert [(heard.retry_count, error) for heard, error in work.handler.heard] == [(n, ERROR) for n in range(3)]

    @each_queue
    def test_an_expected_failure_is_final(self, make_queue: Any) -> None:
        work = Workplace(Handler(work=decline), make_queue())
        [job] = asyncio.run(work.run(a_job(max_retries=2)))
        assert (job.status, job.error_message) == (JobStatus.FAILED, "ValueError: no address")
        assert len(work.handler.heard) == 1

    @pytest.mark.parametrize("make_queue", [MemoryJobQueueAdapter, PatientQueue])
    def test_a_retry_waits_for_its_backoff(self, make_queue: Any) -> None:
        async def scenario() -> Job:
            work = Workplace(Handler(work=fail), make_queue())
            [job_id] = await work.enqueue()
            async with work.working(retry_policy=RetryPolicy(base_delay=60.0)):
                await until(lambda: work.handler.heard)
                await work.reaches(job_id, [JobStatus.RETRYING])
                assert await work.queue.dequeue("default", 0.2) is None
                return await work.stored(job_id)

        job = asyncio.run(scenario())
        assert (job.status, job.retry_count) == (JobStatus.RETRYING, 1)

    def test_a_handler_that_outlives_its_time_limit_has_failed(self) -> None:
        work = Workplace(Handler(work=forever))
        [job] = asyncio.run(work.run(a_job(max_retries=0), time_limit=0.05))
        assert job.status is JobStatus.DEAD_LETTER
        assert "JobTimedOut" in (job.error_message or "")

    def test_a_handler_written_against_the_port_fits(self) -> None:
        class SendMail(JobHandler):
            @property
            def job_type(self) -> str:
                return MAIL

            async def handle(self, job: Job) -> JobResult:
                return await succeed(job)

            async def on_failure(self, job: Job, error: Exception) -> None: ...

        async def scenario() -> list[Job]:
            work = Workplace()
            ids = await work.enqueue()
            manager = WorkerManager(
                job_queue=work.queue, handlers={MAIL: SendMail()}, concurrency=1, queues=["default"]
            )
            await manager.start()
            ended = await work.ended(*ids)
            await manager.stop()
            return ended

        assert asyncio.run(scenario())[0].status is JobStatus.COMPLETED

    def test_no_more_run_at_once_than_there_are_slots_and_no_fewer(self) -> None:
        async def scenario() -> Handler:
            go_on = asyncio.Event()

            async def wait(job: Job) -> JobResult:
                await go_on.wait()
                return await succeed(job)

            work = Workplace(Handler(work=wait))
            ids = await work.enqueue(*(a_job() for _ in range(9)))
            async with work.working(concurrency=3):
                await until(lambda: work.handler.at_once == 3)
                stats = await work.queue.get_queue_stats("default")
                assert (stats.running_count, stats.pending_count) == (3, 6)
                go_on.set()
                await work.ended(*ids)
            return work.handler

        assert asyncio.run(scenario()).most_at_once == 3

    def test_a_running_job_that_is_cancelled_is_stopped(self) -> None:
        async def scenario() -> tuple[Job, Handler]:
            work = Workplace(Handler(work=forever))
            [job_id] = await work.enqueue()
            async with work.working():
                await until(lambda: work.handler.at_once)
                assert await work.queue.cancel_job(job_id, running=True)
                await until(lambda: not work.handler.at_once)
            return await work.stored(job_id), work.handler

        job, handler = asyncio.run(scenario())
        assert (job.status, job.error_message) == (JobStatus.FAILED, "Job cancelled")
        assert handler.heard == []


class TestOrder:
    @each_queue
    def test_earlier_queues_come_first(self, make_queue: Any) -> None:
        work = Workplace(queue=make_queue())
        jobs = [a_job(name) for name in ("low", "default", "high") for _ in range(3)]
        asyncio.run(work.run(*jobs, queues=["high", "default", "low"], concurrency=1))
        names = [job.queue_name for job in work.handler.started]
        assert names == ["high"] * 3 + ["default"] * 3 + ["low"] * 3

    def test_a_job_of_an_earlier_queue_goes_before_a_backlog_of_a_later_one(self) -> None:
        async def scenario() -> list[str]:
            work = Workplace()

            async def overtake(job: Job) -> JobResult:
                if len(work.handler.started) == 2:
                    await work.enqueue(a_job("high"))
                return await succeed(job)

            work.handler.work = overtake
            await work.enqueue(*(a_job("low") for _ in range(4)))
            async with work.working(queues=["high", "low"], concurrency=1):
                await until(lambda: len(work.handler.started) == 5)
            return [job.queue_name for job in work.handler.started]

        assert asyncio.run(scenario()) == ["low", "low", "high", "low", "low"]

    def test_within_a_queue_the_queues_own_order_holds(self) -> None:
        work = Workplace()
        asyncio.run(work.run(*(a_job(priority=priority) for priority in (1, 3, 2)), concurrency=1))
        assert [job.priority for job in work.handler.started] == [3, 2, 1]

    @each_queue
    def test_a_worker_that_waits_hears_of_every_queue(self, make_queue: Any) -> None:
        async def scenario() -> None:
            work = Workplace(queue=make_queue())
            async with work.working(queues=["a", "b", "c"], concurrency=2):
                for name in ("c", "a", "b", "b"):
                    await work.ended(*await work.enqueue(a_job(name)))

        asyncio.run(scenario())

    def test_however_many_slots_are_free_one_caller_waits_for_each_queue(self) -> None:
        async def scenario() -> list[tuple[str, float]]:
            queue = PorticosQueue()
            work = Workplace(queue=queue)
            async with work.working(queues=["a", "b"], concurrency=8):
                await until(lambda: len([name for name, timeout in queue.dequeues if timeout]) >= 2)
                await work.ended(*await work.enqueue(a_job("a")))
                await until(lambda: len([name for name, timeout in queue.dequeues if timeout]) >= 4)
                await asyncio.sleep(0.2)
            return [(name, timeout) for name, timeout in queue.dequeues if timeout]

        # Twice: before the job, and after it.
        assert [name for name, _timeout in asyncio.run(scenario())] == ["a", "b"] * 2

    def test_no_job_is_taken_that_no_slot_is_free_for(self) -> None:
        async def scenario() -> tuple[int, int]:
            queue = PorticosQueue()
            work = Workplace(Handler(work=forever), queue)
            async with work.working(queues=["high", "low"], concurrency=3):
                await until(lambda: len([name for name, timeout in queue.dequeues if timeout]) == 2)
                await queue.inner.enqueue_all([a_job(name) for name in ("low", "high") for _ in range(3)])
                await until(lambda: work.handler.at_once == 3)
                await asyncio.sleep(0.1)
                stats = [await queue.get_queue_stats(name) for name in ("high", "low")]
            return stats[0].running_count, stats[1].running_count

        # Who waited for both queues got a job of each; the third slot took the next of the earlier queue.
        assert asyncio.run(scenario()) == (2, 1)


class TestStartingAndStopping:
    def test_it_runs_from_its_start_to_its_stop_and_may_start_again(self) -> None:
        async def scenario() -> list[bool]:
            work = Workplace()
            manager = work.manager()
            running = [manager.is_running]
            await manager.stop()
            for _ in range(2):
                await manager.start()
                running.append(manager.is_running)
                await work.ended(*await work.enqueue())
                await manager.stop()
                running.append(manager.is_running)
            [waits] = await work.enqueue()
            assert (await work.stored(waits)).status is JobStatus.PENDING
            return running

        assert asyncio.run(scenario()) == [False, True, False, True, False]

    def test_starting_twice_is_starting_once(self, caplog: pytest.LogCaptureFixture) -> None:
        async def scenario() -> Handler:
            work = Workplace(Handler(work=forever))
            await work.enqueue(*(a_job() for _ in range(5)))
            async with work.working(concurrency=2) as manager:
                await manager.start()
                await until(lambda: work.handler.at_once == 2)
                assert await work.queue.dequeue("default", 0.1) is not None
            return work.handler

        assert asyncio.run(scenario()).most_at_once == 2
        assert events(caplog).count("worker_manager_already_started") == 1

    def test_it_may_start_in_another_event_loop_when_its_own_has_ended(self) -> None:
        work = Workplace(queue=MemoryJobQueueAdapter())
        manager = work.manager()
        for _ in range(2):

            async def scenario() -> None:
                await manager.start()
                await work.ended(*await work.enqueue())

            asyncio.run(scenario())
            assert not manager.is_running

    @each_queue
    def test_stopping_waits_for_what_is_in_flight_and_takes_no_more(self, make_queue: Any) -> None:
        async def scenario() -> list[Job]:
            go_on = asyncio.Event()

            async def wait(job: Job) -> JobResult:
                await go_on.wait()
                return await succeed(job)

            work = Workplace(Handler(work=wait), make_queue())
            ids = await work.enqueue(*(a_job() for _ in range(4)))
            manager = work.manager(concurrency=2)
            await manager.start()
            await until(lambda: work.handler.at_once == 2)
            stopping = asyncio.create_task(manager.stop())
            await until(lambda: not manager.is_running)
            assert not stopping.done()
            go_on.set()
            await stopping
            return [await work.stored(job_id) for job_id in ids]

        statuses = [job.status for job in asyncio.run(scenario())]
        assert statuses == [JobStatus.COMPLETED] * 2 + [JobStatus.PENDING] * 2

    def test_what_can_not_end_in_time_cleans_up_and_goes_back_without_spending_a_retry(self) -> None:
        cleaned_up = []

        async def clean_up_slowly(job: Job) -> JobResult:
            try:
                return await forever(job)
            finally:
                await asyncio.sleep(0.01)
                cleaned_up.append(job.id)

        async def scenario() -> tuple[Job, Handler]:
            work = Workplace(Handler(work=clean_up_slowly))
            [job_id] = await work.enqueue(a_job(max_retries=1))
            async with work.working() as manager:
                await until(lambda: work.handler.at_once)
                await manager.stop(grace=0.05)
            return await work.stored(job_id), work.handler

        job, handler = asyncio.run(scenario())
        assert (job.status, job.retry_count) == (JobStatus.RETRYING, 0)
        assert cleaned_up == [job.id]
        assert handler.heard == []

    def test_by_the_port_alone_what_goes_back_spends_a_retry(self) -> None:
        async def scenario() -> Job:
            work = Workplace(Handler(work=forever), PorticosQueue())
            [job_id] = await work.enqueue()
            async with work.working() as manager:
                await until(lambda: work.handler.at_once)
                await manager.stop(grace=0)
            return await work.stored(job_id)

        job = asyncio.run(scenario())
        assert (job.status, job.retry_count) == (JobStatus.RETRYING, 1)

    def test_a_job_that_must_not_start_twice_is_let_run_to_its_end(self) -> None:
        async def scenario() -> Job:
            go_on = asyncio.Event()

            async def wait(job: Job) -> JobResult:
                await go_on.wait()
                return await succeed(job)

            work = Workplace(Handler(work=wait))
            [job_id] = await work.enqueue(a_job(max_retries=0))
            manager = work.manager()
            await manager.start()
            await until(lambda: work.handler.at_once)
            stopping = asyncio.create_task(manager.stop(grace=0))
            await asyncio.wait([stopping], timeout=0.2)
            assert not stopping.done()
            go_on.set()
            await stopping
            return await work.stored(job_id)

        assert asyncio.run(scenario()).status is JobStatus.COMPLETED

    @each_queue
    def test_a_handler_that_does_not_stop_has_its_job_taken_and_its_report_refused(
        self, make_queue: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def scenario() -> Job:
            go_on = asyncio.Event()

            async def not_stop(job: Job) -> JobResult:
                while not go_on.is_set():
                    try:
                        await go_on.wait()
                    except asyncio.CancelledError:
                        continue
                return await succeed(job)

            work = Workplace(Handler(work=not_stop), make_queue())
            [job_id] = await work.enqueue()
            manager = work.manager()
            await manager.start()
            await until(lambda: work.handler.at_once)
            await manager.stop(grace=0)
            taken = await work.queue.dequeue("default", 1)
            assert taken is not None
            go_on.set()
            await until(lambda: not work.handler.at_once)
            await asyncio.sleep(0.05)
            return await work.stored(job_id)

        assert asyncio.run(scenario()).status is JobStatus.RUNNING
        assert "job_given_back_while_it_runs" in events(caplog)

    @each_queue
    @pytest.mark.parametrize("seed", range(8))
    def test_stopping_at_any_moment_loses_no_job(self, make_queue: Any, seed: int) -> None:
        async def scenario() -> None:
            work = Workplace(queue=make_queue())
            names = ["a", "b", "c"]
            ids = []
            for number in range(20):
                manager = work.manager(queues=names, concurrency=1 + seed % 3)
                await manager.start()
                for _ in range((seed + number) % 4):
                    await asyncio.sleep(0)
                ids += await work.enqueue(*(a_job(name) for name in names))
                for _ in range((seed * 3 + number) % 7):
                    await asyncio.sleep(0)
                await manager.stop()
            async with work.working(queues=names):
                ended = await work.ended(*ids)
            assert {(job.status, job.retry_count) for job in ended} == {(JobStatus.COMPLETED, 0)}
            assert sorted(job.id for job in work.handler.started) == sorted(ids)

        asyncio.run(scenario())

    def test_a_job_taken_while_another_queue_is_slow_to_let_go_is_run_though_the_worker_stops(self) -> None:
        class SlowToLetGo(PorticosQueue):
            async def dequeue(self, queue_name: str, timeout: float = 30) -> Job | None:
                try:
                    return await super().dequeue(queue_name, timeout)
                except asyncio.CancelledError:
                    await asyncio.sleep(0.2)
                    raise

        async def scenario() -> Job:
            queue = SlowToLetGo()
            work = Workplace(queue=queue)
            async with work.working(queues=["a", "b"]) as manager:
                await until(lambda: len([name for name, timeout in queue.dequeues if timeout]) == 2)
                [job_id] = await work.enqueue(a_job("a"))
                await work.reaches(job_id, [JobStatus.RUNNING])
                await manager.stop()
            return await work.stored(job_id)

        assert asyncio.run(scenario()).status is JobStatus.COMPLETED

    def test_a_stop_that_was_broken_off_is_ended_by_the_next_start(self) -> None:
        async def scenario() -> list[Job]:
            go_on = asyncio.Event()

            async def wait(job: Job) -> JobResult:
                await go_on.wait()
                return await succeed(job)

            work = Workplace(Handler(work=wait))
            manager = work.manager()
            await manager.start()
            [left] = await work.enqueue()
            await until(lambda: work.handler.started)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await manager.stop(grace=None)
            assert not manager.is_running
            go_on.set()
            await manager.start()
            await until(lambda: manager.is_running)
            ended = await work.ended(left, *await work.enqueue())
            await manager.stop()
            return ended

        assert [job.status for job in asyncio.run(scenario())] == [JobStatus.COMPLETED] * 2

    def test_a_job_in_its_last_attempt_is_let_run_to_its_end_where_giving_back_would_end_it(self) -> None:
        async def scenario() -> Job:
            go_on = asyncio.Event()

            async def wait(job: Job) -> JobResult:
                await go_on.wait()
                return await succeed(job)

            work = Workplace(Handler(work=wait), PorticosQueue())
            [job_id] = await work.enqueue(a_job(max_retries=1))
            await work.queue.dequeue("default", 0)
            await work.queue.reject(job_id)
            manager = work.manager()
            await manager.start()
            await until(lambda: work.handler.started)
            stopping = asyncio.create_task(manager.stop(grace=0))
            await until(lambda: not manager.is_running)
            go_on.set()
            await stopping
            return await work.stored(job_id)

        job = asyncio.run(scenario())
        assert (job.status, job.retry_count) == (JobStatus.COMPLETED, 1)


class TestTrouble:
    def test_a_queue_that_is_away_holds_up_no_other_and_is_tried_again(self, caplog: pytest.LogCaptureFixture) -> None:
        async def scenario() -> None:
            queue = PorticosQueue()
            queue.fails = {"a"}
            work = Workplace(queue=queue)
            async with work.working(queues=["a", "b"], concurrency=1):
                for _ in range(3):
                    await work.ended(*await work.enqueue(a_job("b")))
                [job_id] = await work.enqueue(a_job("a"))
                assert (await work.stored(job_id)).status is JobStatus.PENDING
                # Backing off, not hammering.
                assert len([name for name, _ in queue.dequeues if name == "a"]) < 4
                queue.fails = set()
                await work.ended(job_id)

        asyncio.run(scenario())
        assert "dequeue_failed" in events(caplog)

    def test_a_queue_that_never_waits_is_not_asked_in_a_tight_circle(self) -> None:
        class Impatient(PorticosQueue):
            async def dequeue(self, queue_name: str, timeout: float = 30) -> Job | None:
                self.dequeues.append((queue_name, timeout))
                return await self.inner.dequeue(queue_name, 0)

        async def scenario() -> int:
            queue = Impatient()
            work = Workplace(queue=queue)
            async with work.working(concurrency=5):
                await asyncio.sleep(0.35)
                before = len(queue.dequeues)
                await work.ended(*await work.enqueue())
            return before

        assert asyncio.run(scenario()) < 20

    def test_the_end_of_a_job_is_recorded_when_the_queue_is_back(self, caplog: pytest.LogCaptureFixture) -> None:
        class Forgetful(PorticosQueue):
            failures = 2

            async def acknowledge(self, job_id: Any) -> None:
                if self.failures:
                    self.failures -= 1
                    raise ConnectionError("away")
                await super().acknowledge(job_id)

        work = Workplace(queue=Forgetful())
        [job] = asyncio.run(work.run(a_job()))
        assert job.status is JobStatus.COMPLETED
        assert len(work.handler.started) == 1
        assert events(caplog).count("record_failed") == 2

    def test_the_end_of_a_job_waits_for_its_store_for_as_long_as_that_is_away(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class WithoutStore(MemoryJobQueueAdapter):
            outages = 2

            async def finish(self, claimed: ClaimedJob, transition: Transition) -> bool:
                if self.outages:
                    self.outages -= 1
                    raise StoreUnavailable("away")
                return await super().finish(claimed, transition)

        monkeypatch.setattr(worker_slots, "_RECORD_SECONDS", 0.0)
        [job] = asyncio.run(Workplace(queue=WithoutStore()).run(a_job()))
        assert job.status is JobStatus.COMPLETED
        assert events(caplog).count("end_waits_for_store") == 2

    def test_an_end_that_the_queue_goes_on_refusing_is_left_to_the_lease(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Broken(PorticosQueue):
            async def acknowledge(self, job_id: Any) -> None:
                raise ConnectionError(f"{job_id} can't be acknowledged")

        async def scenario() -> Job:
            work = Workplace(queue=Broken())
            [job_id] = await work.enqueue()
            async with work.working():
                await until(lambda: "run_failed" in events(caplog))
                return await work.stored(job_id)

        monkeypatch.setattr(worker_slots, "_RECORD_SECONDS", 0.0)
        assert asyncio.run(scenario()).status is JobStatus.RUNNING
        assert events(caplog).count("record_failed") == 1

    @each_queue
    def test_the_end_of_a_job_that_has_ended_otherwise_is_not_recorded_and_not_tried_again(
        self, make_queue: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        work = Workplace(queue=make_queue())

        async def be_settled_by_another(job: Job) -> JobResult:
            await work.queue.reject(job.id, requeue=False, error_message="by another")
            return await succeed(job)

        work.handler.work = be_settled_by_another
        [job] = asyncio.run(work.run(a_job()))
        assert (job.status, job.error_message) == (JobStatus.FAILED, "by another")
        assert "stale_attempt_refused" in events(caplog)
        assert "record_failed" not in events(caplog)

    def test_the_handler_hears_of_a_lost_worker_before_the_next_run(self) -> None:
        async def scenario() -> tuple[Job, Handler]:
            work = Workplace(queue=MemoryJobQueueAdapter(lease_seconds=0.1, retry_policy=AT_ONCE))
            [job_id] = await work.enqueue()
            assert await work.lose_its_worker()
            async with work.working():
                [job] = await work.ended(job_id)
            return job, work.handler

        job, handler = asyncio.run(scenario())
        assert (job.status, job.retry_count) == (JobStatus.COMPLETED, 1)
        [(heard, error)] = handler.heard
        assert isinstance(error, WorkerLost)
        assert heard.retry_count == 0

    def test_the_handler_of_a_dead_letter_hears_that_its_worker_was_lost(self) -> None:
        async def scenario() -> Handler:
            work = Workplace(queue=MemoryJobQueueAdapter(lease_seconds=0.1))
            [job_id] = await work.enqueue(a_job(max_retries=0))
            assert await work.lose_its_worker()
            async with work.working():
                await until(lambda: work.handler.heard)
                await asyncio.sleep(0.3)
            assert (await work.stored(job_id)).status is JobStatus.DEAD_LETTER
            return work.handler

        handler = asyncio.run(scenario())
        assert [type(error) for _job, error in handler.heard] == [WorkerLost]
        assert handler.started == []

    def test_a_worker_whose_event_loop_is_gone_loses_its_jobs(self) -> None:
        work = Workplace(Handler(work=forever), MemoryJobQueueAdapter(lease_seconds=0.1, retry_policy=AT_ONCE))
        manager = work.manager()

        async def be_left_alone() -> UUID:
            [job_id] = await work.enqueue()
            await manager.start()
            await until(lambda: work.handler.started)
            return job_id

        loop = asyncio.new_event_loop()
        job_id = loop.run_until_complete(be_left_alone())
        # Nobody ever ends them; and nobody is told, as long as they are not forgotten.
        FORGOTTEN_BY_THEIR_LOOP.append(asyncio.all_tasks(loop))
        loop.close()

        async def go_on() -> Job:
            work.handler.work = succeed
            async with work.working():
                return await work.reaches(job_id, ENDED)

        job = asyncio.run(go_on())
        assert (job.status, job.retry_count) == (JobStatus.COMPLETED, 1)

    def test_a_handler_that_takes_longer_than_a_lease_keeps_its_job(self) -> None:
        async def slowly(job: Job) -> JobResult:
            await asyncio.sleep(0.5)
            return await succeed(job)

        work = Workplace(Handler(work=slowly), MemoryJobQueueAdapter(lease_seconds=0.1, retry_policy=AT_ONCE))
        [job] = asyncio.run(work.run(a_job(), concurrency=2))
        assert (job.status, job.retry_count) == (JobStatus.COMPLETED, 0)
        assert len(work.handler.started) == 1


class TestUnknownTypes:
    def test_a_job_that_this_worker_does_not_know_waits_for_one_that_does(self) -> None:
        async def scenario() -> Job:
            work = Workplace()
            [job_id] = await work.enqueue(a_job(job_type="report.daily", max_retries=0))
            async with work.working():
                async with asyncio.timeout(PATIENCE):
                    while (job := await work.stored(job_id)).error_message is None:  # noqa: ASYNC110  # no event
                        await asyncio.sleep(0.001)
                return job

        job = asyncio.run(scenario())
        assert (job.status, job.retry_count) == (JobStatus.PENDING, 0)
        assert "has no handler for 'report.daily'" in (job.error_message or "")

    def test_when_patience_ends_it_is_a_dead_letter(self) -> None:
        work = Workplace(options={"unknown_job_type_seconds": 0.0})
        [job] = asyncio.run(work.run(a_job(job_type="report.daily")))
        assert job.status is JobStatus.DEAD_LETTER
        assert UnknownJobType.__name__ in (job.error_message or "")

    def test_by_the_port_alone_it_spends_its_retries(self) -> None:
        work = Workplace(queue=PorticosQueue())
        [job] = asyncio.run(work.run(a_job(job_type="report.daily", max_retries=1)))
        assert (job.status, job.retry_count) == (JobStatus.DEAD_LETTER, 1)
        assert UnknownJobType.__name__ in (job.error_message or "")


class TestConfiguration:
    @pytest.mark.parametrize(
        ("arguments", "fault"),
        [
            ({"concurrency": 0}, "concurrency"),
            ({"queues": []}, "queues"),
            ({"queues": "default"}, "queues"),
            ({"queues": ["a b"]}, "queue_name"),
            ({"handlers": {"another.type": Handler()}}, "another.type"),
            ({"handlers": {MAIL: Handler}}, "instance"),
            ({"handlers": {MAIL: object()}}, "no job handler"),
        ],
    )
    def test_what_can_not_work_is_refused_at_once(self, arguments: dict[str, Any], fault: str) -> None:
        with pytest.raises((ConfigurationError, ValidationError), match=fault):
            WorkerManager(**{"job_queue": MemoryJobQueueAdapter(), "handlers": {MAIL: Handler()}, **arguments})

    def test_it_is_bound_to_no_event_loop_before_its_start(self) -> None:
        work = Workplace()
        manager = work.manager()

        async def scenario() -> Job:
            await manager.start()
            [job] = await work.ended(*await work.enqueue())
            await manager.stop()
            return job

        assert asyncio.run(scenario()).status is JobStatus.COMPLETED
