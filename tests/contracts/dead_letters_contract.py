"""What a job queue promises of dead letters: they are found, brought back and discarded, one, some or all.

A test class takes it over as it does JobQueueContract, with the same fixture.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

from portico_celery.kits.job import JobService
from portico_celery.kits.job.worker_manager import WorkerManager
from portico_celery.ports.job import Job, JobResult, JobStatus
from portico_celery.ports.job_handler import JobHandler
from portico_celery.ports.job_queue import JobQueueAdapter
from portico_celery.ports.job_reader import JobFilter
from tests.contracts.job_queue_contract import at, dead
from tests.contracts.queues import PATIENCE, QueueUnderTest


class DeadLetterHandler(JobHandler):
    """As an application writes it for Portico, by the job queue's port alone."""

    def __init__(self, job_queue: JobQueueAdapter) -> None:
        self.job_queue = job_queue
        self.seen: list[tuple[str, str, dict[str, Any]]] = []

    @property
    def job_type(self) -> str:
        return "system.deadletter.process"

    async def handle(self, job: Job) -> JobResult:
        dead_job = await self.job_queue.get_job(job.payload["dead_job_id"])
        if not dead_job:
            return JobResult(success=True)
        error_type = "transient" if "hung up" in (dead_job.error_message or "") else "permanent"
        self.seen.append((dead_job.job_type, error_type, dead_job.payload))
        if error_type == "transient":
            await self.job_queue.enqueue(dead_job)
        return JobResult(success=True, result_data={"analyzed": True, "requeued": error_type == "transient"})

    async def on_failure(self, job: Job, error: Exception) -> None:
        raise AssertionError(f"{job} failed") from error


class SendEmail(JobHandler):
    """Works, this time."""

    def __init__(self) -> None:
        self.sent = asyncio.Queue[Job]()

    @property
    def job_type(self) -> str:
        return "email.send"

    async def handle(self, job: Job) -> JobResult:
        self.sent.put_nowait(job)
        return JobResult(success=True)

    async def on_failure(self, job: Job, error: Exception) -> None:
        raise AssertionError(f"{job} failed") from error


class DeadLettersContract:
    def test_a_handler_brings_back_the_dead_letter_whose_error_was_transient(self, jobs: QueueUnderTest) -> None:
        job = dead(jobs)
        handler, email = DeadLetterHandler(jobs.adapter), SendEmail()
        manager = WorkerManager(
            job_queue=jobs.adapter, handlers={handler.job_type: handler, email.job_type: email}, queues=[jobs.name]
        )

        async def work() -> Job:
            await manager.start()
            payload = {"dead_job_id": str(job.id)}
            await JobService(jobs.adapter).create_job(handler.job_type, payload, jobs.name)
            sent = await asyncio.wait_for(email.sent.get(), PATIENCE)
            await manager.stop()
            return sent

        sent = jobs.run(work())
        assert (sent.id, sent.payload, sent.retry_count, sent.error_message) == (job.id, job.payload, 0, None)
        assert handler.seen == [(job.job_type, "transient", job.payload)]
        assert jobs.status(job.id) is JobStatus.COMPLETED
        record = jobs.run(jobs.adapter.get_record(job.id))
        assert record is not None
        assert [attempt.error for attempt in record.attempts] == [job.error_message, None]

    def test_a_handler_leaves_a_dead_letter_whose_error_will_not_pass(self, jobs: QueueUnderTest) -> None:
        job = jobs.enqueued(max_retries=0)
        jobs.reject(jobs.take().id, error_message="no such mailbox")
        stored = jobs.stored(job.id)
        task = jobs.job(job_type="system.deadletter.process", payload={"dead_job_id": str(job.id)})
        result = jobs.run(DeadLetterHandler(jobs.adapter).handle(task))
        assert result.result_data == {"analyzed": True, "requeued": False}
        assert jobs.stored(job.id) == stored
        assert jobs.none_comes()

    def test_a_handler_that_comes_too_late_does_nothing(self, jobs: QueueUnderTest) -> None:
        job = dead(jobs)
        assert jobs.run(JobService(jobs.adapter).discard_job(job.id))
        task = jobs.job(job_type="system.deadletter.process", payload={"dead_job_id": str(job.id)})
        assert jobs.run(DeadLetterHandler(jobs.adapter).handle(task)) == JobResult(success=True)
        assert jobs.none_comes()

    def test_dead_letters_are_found_by_why_and_when_they_died(self, jobs: QueueUnderTest) -> None:
        job = dead(jobs)
        died = at(job.failed_at)
        wanted = JobFilter(
            queue_name=jobs.name,
            job_type=job.job_type,
            status=JobStatus.DEAD_LETTER,
            error_contains="hung up",
            ended_since=died,
            ended_until=died + timedelta(seconds=1),
        )
        assert jobs.run(jobs.adapter.list_jobs(wanted)).jobs == (job,)
        for other in [
            replace(wanted, ended_since=died + timedelta(seconds=1)),
            replace(wanted, error_contains="up up"),
        ]:
            assert jobs.run(jobs.adapter.list_jobs(other)).jobs == ()

    def test_all_dead_letters_are_requeued_counted_and_taken_at_once(self, jobs: QueueUnderTest) -> None:
        ids = {dead(jobs).id for _ in range(5)}
        failed = jobs.enqueued()
        jobs.cancel(failed.id)
        service, wanted = JobService(jobs.adapter), JobFilter(queue_name=jobs.name)
        assert jobs.run(service.requeue_jobs(wanted)) == len(ids)
        jobs.settled()
        # Each would be announced again after longer than anybody waits here.
        assert {jobs.take().id for _ in ids} == ids
        assert jobs.status(failed.id) is JobStatus.FAILED
        assert jobs.run(service.requeue_jobs(wanted)) == 0

    def test_a_requeued_job_has_all_its_retries_and_its_history(self, jobs: QueueUnderTest) -> None:
        job = jobs.enqueued(max_retries=1)
        for _ in range(2):
            jobs.reject(jobs.take().id, error_message="no")
        assert jobs.run(JobService(jobs.adapter).requeue_jobs(JobFilter(job_ids=(job.id,)))) == 1
        jobs.reject(jobs.take().id, error_message="again")
        assert jobs.status(job.id) is JobStatus.RETRYING
        record = jobs.run(jobs.adapter.get_record(job.id))
        assert record is not None
        assert [attempt.error for attempt in record.attempts] == ["no", "no", "again"]

    def test_dead_letters_are_discarded_and_counted(self, jobs: QueueUnderTest) -> None:
        ids = {dead(jobs).id for _ in range(3)}
        waiting = jobs.enqueued()
        service, wanted = JobService(jobs.adapter), JobFilter(queue_name=jobs.name)
        assert jobs.run(service.discard_jobs(wanted, limit=2)) == 2
        assert jobs.run(service.discard_jobs(wanted)) == 1
        assert all(jobs.run(jobs.adapter.get_job(job_id)) is None for job_id in ids)
        assert jobs.take().id == waiting.id

    def test_several_admins_at_once_requeue_each_job_once(self, jobs: QueueUnderTest) -> None:
        ids = {dead(jobs).id for _ in range(8)}
        service, wanted = JobService(jobs.adapter), JobFilter(queue_name=jobs.name)

        async def requeue() -> int:
            return sum(await asyncio.gather(*(service.requeue_jobs(wanted, per_second=500) for _ in range(3))))

        assert jobs.run(requeue()) == len(ids)
        jobs.settled()
        assert {jobs.take().id for _ in ids} == ids
        assert jobs.none_comes()
