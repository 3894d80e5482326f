"""A worker within an application, over Celery's queues."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
from celery import Celery

from portico_celery import PorticoCelery
from portico_celery.adapters.celery.process_io import ProcessIO
from portico_celery.exceptions import StillInUse
from portico_celery.kits.job import WorkerManager
from portico_celery.lifecycle import RetryPolicy
from portico_celery.ports.job import Job, JobResult, JobStatus

PATIENCE = 30.0
MAIL = "email.send"


class Flaky:
    """Fails at first, and tells what it was given."""

    job_type = MAIL

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def handle(self, job: Job) -> JobResult:
        if job.payload.get("fails", 0) > job.retry_count:
            raise ConnectionError("the mail server hung up")
        return JobResult(success=True, result_data={"tried": job.retry_count})

    async def on_failure(self, job: Job, error: Exception) -> None:
        self.heard.append(f"{job.retry_count}: {error}")


@pytest.fixture(params=["amqp_url", "redis_url", None], ids=["rabbitmq", "redis", "in-process"])
def portico(request: pytest.FixtureRequest, tmp_path: Path, queue_name: str) -> Iterator[PorticoCelery]:
    broker = "portico-memory://" if request.param is None else request.getfixturevalue(request.param)
    app = Celery("shop", broker=broker)
    app.conf.update(portico_sweep_seconds=0.1, portico_lease_seconds=6.0)
    with closing(PorticoCelery(app, store=f"sqlite:///{tmp_path / 'jobs.db'}")) as portico:
        portico.declare(MAIL)
        yield portico


def a_manager(portico: PorticoCelery, handler: Flaky, queue_name: str) -> WorkerManager:
    return WorkerManager(
        job_queue=portico.queue,
        handlers={MAIL: handler},
        concurrency=4,
        queues=[queue_name],
        retry_policy=RetryPolicy(base_delay=0.05),
    )


async def completed(portico: PorticoCelery, queue_name: str, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await portico.queue.get_queue_stats(queue_name)).completed_count < count:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.02)


def test_jobs_are_run_to_their_end_with_their_retries_and_results(portico: PorticoCelery, queue_name: str) -> None:
    async def scenario() -> tuple[list[Job], Flaky]:
        handler = Flaky()
        manager = a_manager(portico, handler, queue_name)
        await manager.start()
        jobs = [await portico.service.create_job(MAIL, {"fails": number % 3}, queue_name) for number in range(12)]
        await completed(portico, queue_name, len(jobs))
        await manager.stop()
        return jobs, handler

    jobs, handler = asyncio.run(scenario())
    records = [portico.sync.get_record(job.id) for job in jobs]
    assert [record and record.result_data for record in records] == [{"tried": number % 3} for number in range(12)]
    assert [record and len(record.attempts) for record in records] == [1 + number % 3 for number in range(12)]
    assert len(handler.heard) == 12


def test_what_stopping_gives_back_is_taken_by_the_next_at_once(portico: PorticoCelery, queue_name: str) -> None:
    class Slow(Flaky):
        async def handle(self, job: Job) -> JobResult:
            started.set()
            await asyncio.Event().wait()
            return await super().handle(job)

    async def scenario() -> Job | None:
        first = a_manager(portico, Slow(), queue_name)
        await first.start()
        job = await portico.service.create_job(MAIL, {}, queue_name)
        async with asyncio.timeout(PATIENCE):
            await started.wait()
        await first.stop(grace=0)
        second = a_manager(portico, Flaky(), queue_name)
        await second.start()
        await completed(portico, queue_name, 1)
        await second.stop()
        return await portico.service.get_job(job.id)

    started = asyncio.Event()
    job = asyncio.run(scenario())
    assert job is not None
    assert (job.status, job.retry_count) == (JobStatus.COMPLETED, 0)


def test_a_running_job_that_is_cancelled_is_stopped(portico: PorticoCelery, queue_name: str) -> None:
    async def scenario() -> Job | None:
        started, stopped = asyncio.Event(), asyncio.Event()

        class Waiting(Flaky):
            async def handle(self, job: Job) -> JobResult:
                started.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    stopped.set()
                return await super().handle(job)

        manager = a_manager(portico, Waiting(), queue_name)
        await manager.start()
        job = await portico.service.create_job(MAIL, {}, queue_name)
        async with asyncio.timeout(PATIENCE):
            await started.wait()
            assert await portico.service.cancel_job(job.id, running=True)
            await stopped.wait()
        await manager.stop()
        return await portico.service.get_job(job.id)

    job = asyncio.run(scenario())
    assert job is not None
    assert (job.status, job.error_message) == (JobStatus.FAILED, "Job cancelled")


def test_a_queue_is_not_closed_under_a_job_that_runs_and_others_go_on_while_it_closes(
    portico: PorticoCelery, queue_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> Job | None:
        started, go_on = asyncio.Event(), asyncio.Event()

        class Waiting(Flaky):
            async def handle(self, job: Job) -> JobResult:
                started.set()
                await go_on.wait()
                return await super().handle(job)

        manager = a_manager(portico, Waiting(), queue_name)
        await manager.start()
        job = await portico.service.create_job(MAIL, {}, queue_name)
        async with asyncio.timeout(PATIENCE):
            await started.wait()
            with pytest.raises(StillInUse, match="1 of its jobs runs in this process"):
                await portico.queue.close()
            go_on.set()
            await completed(portico, queue_name, 1)
            await manager.stop()
            others_had_a_turn = threading.Event()
            close = ProcessIO.close

            def close_slowly(io: ProcessIO) -> None:
                assert others_had_a_turn.wait(PATIENCE)
                close(io)

            monkeypatch.setattr(ProcessIO, "close", close_slowly)
            asyncio.get_running_loop().call_later(0.05, others_had_a_turn.set)
            await portico.queue.close()
            assert others_had_a_turn.is_set()
        return await portico.service.get_job(job.id)

    job = asyncio.run(scenario())
    assert job is not None
    assert (job.status, job.retry_count) == (JobStatus.COMPLETED, 0)


def test_a_manager_of_the_app_has_its_handlers_and_settings(tmp_path: Path) -> None:
    app = Celery("shop", broker="portico-memory://")
    app.conf.update(portico_retry_base_delay=0.05, portico_retry_jitter=0.0, portico_sweep_seconds=0.1)

    class Slow(Flaky):
        async def handle(self, job: Job) -> JobResult:
            await asyncio.Event().wait()
            return await super().handle(job)

    async def scenario(portico: PorticoCelery) -> Job:
        manager = portico.worker_manager(concurrency=2)
        await manager.start()
        # In the handler's own queue, which a manager of the app takes from as a worker does.
        job = await portico.service.create_job(MAIL, {}, max_retries=1)
        async with asyncio.timeout(PATIENCE):
            while (stored := await portico.queue.get_job(job.id)) and stored.status is not JobStatus.DEAD_LETTER:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await manager.stop()
        assert stored is not None
        return stored

    with closing(PorticoCelery(app, store=f"sqlite:///{tmp_path / 'jobs.db'}")) as portico:
        handler = Slow()
        portico.register(handler, queue=f"portico-test-{uuid4().hex}", time_limit=0.05)
        job = asyncio.run(scenario(portico))
    assert job.retry_count == 1
    assert "time limit of 0.05 s" in str(job.error_message)
    assert len(handler.heard) == 2
