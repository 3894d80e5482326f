"""The service's face for synchronous callers."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from portico_celery.exceptions import UnknownJobType, ValidationError
from portico_celery.kits.job import HandlerRegistry, JobService, SyncJobService
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_reader import JobFilter
from portico_celery.ports.job_store import Claim
from portico_celery.ports.schedule_store import ScheduleAccess
from tests.unit.queue_in_memory import QueueInMemory

MAIL = "email.send"
JOB_ID = UUID(int=7)

COROUTINES = [name for name, _method in inspect.getmembers(JobService, inspect.iscoroutinefunction) if name[0] != "_"]
# Of schedules, it is ScheduleService that has a synchronous face.
METHODS = [name for name in COROUTINES if not hasattr(ScheduleAccess, name)]


@pytest.fixture(params=[False, True], ids=["without an event loop", "with an event loop"])
def queue(request: pytest.FixtureRequest) -> QueueInMemory:
    return QueueInMemory(needs_event_loop=request.param)


@pytest.fixture
def sync(queue: QueueInMemory) -> SyncJobService:
    return SyncJobService(JobService(queue))


@pytest.mark.parametrize("name", METHODS)
def test_each_method_of_the_service_is_here_with_the_same_arguments(name: str) -> None:
    assert inspect.signature(getattr(SyncJobService, name)) == inspect.signature(getattr(JobService, name))


def test_there_is_something_to_compare() -> None:
    assert {"create_job", "create_once", "create_jobs", "get_job", "discard_job"} <= set(METHODS)


def test_jobs_are_created(sync: SyncJobService, queue: QueueInMemory) -> None:
    job = sync.create_job(MAIL, {"n": 1}, "mail", 5, max_retries=7)
    assert (job.payload, job.queue_name, job.priority, job.max_retries) == ({"n": 1}, "mail", 5, 7)
    once, created = sync.create_once(MAIL, {"n": 2}, "mail", 6, job_id=JOB_ID, max_retries=8)
    assert (created, once.id, once.payload, once.priority, once.max_retries) == (True, JOB_ID, {"n": 2}, 6, 8)
    assert sync.create_once(MAIL, {}, job_id=JOB_ID) == (once, False)
    [third] = sync.create_jobs([{"job_type": MAIL, "payload": {"n": 3}}])
    assert queue.jobs == [third, once, job]
    refused, fourth = sync.create_each(
        [{"job_type": MAIL, "payload": {"n": object()}}, {"job_type": MAIL, "payload": {}}]
    )
    assert isinstance(refused, ValidationError)
    assert queue.jobs == [fourth, third, once, job]


def test_jobs_are_read(sync: SyncJobService) -> None:
    job = sync.create_job(MAIL, {})
    record = sync.get_record(job.id)
    assert record is not None
    assert sync.get_job(str(job.id)) == record.job == job
    assert sync.list_jobs(JobFilter(job_type=MAIL)).jobs == (job,)
    assert sync.list_jobs(JobFilter(job_type="report.daily")).jobs == ()
    assert sync.get_queue_stats("default").pending_count == 1
    assert sync.get_job(JOB_ID) is None


def test_jobs_are_changed(sync: SyncJobService) -> None:
    job = sync.create_job(MAIL, {})
    assert (sync.requeue_job(job.id), sync.cancel_job(job.id)) == (False, True)
    assert (sync.requeue_job(job.id), sync.discard_job(job.id)) == (True, False)
    assert (sync.cancel_job(job.id), sync.discard_job(job.id)) == (True, True)
    assert sync.get_job(job.id) is None


def test_a_running_job_is_cancelled(sync: SyncJobService, queue: QueueInMemory) -> None:
    job = sync.create_job(MAIL, {})
    queue.store.claim([Claim(job_id=job.id, worker="worker-1", lease_seconds=30)])
    assert (sync.cancel_job(job.id), sync.cancel_job(job.id, running=True)) == (False, True)


def test_errors_come_through(queue: QueueInMemory) -> None:
    sync = SyncJobService(JobService(queue, registry=HandlerRegistry()))
    with pytest.raises(UnknownJobType):
        sync.create_job(MAIL, {})
    with pytest.raises(ValidationError, match="job_id must be a UUID"):
        sync.get_job("seven")


def test_in_a_thread_that_runs_an_event_loop_nothing_is_done(sync: SyncJobService, queue: QueueInMemory) -> None:
    async def view() -> None:
        sync.create_job(MAIL, {})

    with pytest.raises(RuntimeError, match="await the asynchronous face"):
        asyncio.run(view())
    assert queue.jobs == []


def test_a_thread_beside_an_event_loop_may_wait(sync: SyncJobService, queue: QueueInMemory) -> None:
    async def view() -> JobStatus:
        return (await asyncio.to_thread(sync.create_job, MAIL, {})).status

    assert asyncio.run(view()) is JobStatus.PENDING
    assert len(queue.jobs) == 1


def test_many_threads_create_at_once(sync: SyncJobService, queue: QueueInMemory) -> None:
    barrier = threading.Barrier(8)

    def create(number: int) -> UUID:
        barrier.wait(timeout=30)
        return sync.create_job(MAIL, {"n": number}).id

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(create, range(8)))
    assert {job.id for job in queue.jobs} == set(ids)
    assert len(set(ids)) == 8
