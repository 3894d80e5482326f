"""A worker in a thread of an application is stopped, and another started in the same process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from celery import Celery, _state
from celery.app.trace import reset_worker_optimizations, setup_worker_optimizations
from celery.worker import WorkController, state

from portico_celery import PorticoCelery
from portico_celery.exceptions import StillInUse
from portico_celery.ports.job import Job, JobResult, JobStatus
from portico_celery.ports.job_reader import JobRecord
from tests.waiting import eventually

GRACE = 0.5
# Beyond all that a shutdown takes.
LONG = GRACE + 2.5
SECONDS = 20.0
HOSTNAME = "embedded@localhost"
# The broker in memory is the whole process's: other tests' messages stay out of this queue.
QUEUE = f"portico-test-{uuid4().hex}"


@dataclass
class Handler:
    """Its first start does not come to an end by itself; the next take ``seconds``."""

    starts: list[UUID] = field(default_factory=list)
    job_type: str = "email.send"

    async def handle(self, job: Job) -> JobResult:
        self.starts.append(job.id)
        if job.payload.get("hangs") and self.starts.count(job.id) == 1:
            await asyncio.Event().wait()
        await asyncio.sleep(job.payload.get("seconds", 0))
        return JobResult(success=True)

    async def on_failure(self, job: Job, error: Exception) -> None:
        pass


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
def portico(handler: Handler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PorticoCelery]:
    # What a worker makes its app, and what other tests must not find afterwards.
    monkeypatch.setattr("celery._state.default_app", vars(_state)["default_app"])
    monkeypatch.setattr("celery._state._tls.current_app", None)
    app = Celery("embedding", broker="portico-memory://", set_as_current=False)
    app.conf.update(portico_shutdown_grace=GRACE, portico_sweep_seconds=0.2)
    portico = PorticoCelery(app, store=f"sqlite:///{tmp_path / 'jobs.db'}")
    portico.register(handler, queue=QUEUE)
    setup_worker_optimizations(app, HOSTNAME)
    yield portico
    reset_worker_optimizations(app)
    portico.close()
    app.close()


@contextmanager
def a_worker(app: Celery, how_to_stop: str) -> Iterator[None]:
    """Run a worker in a thread; in the end it is told to stop, by Celery's flag for that, and awaited."""
    ready = threading.Event()
    worker = WorkController(
        app=app,
        hostname=HOSTNAME,
        pool="threads",
        concurrency=2,
        queues=[QUEUE],
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        ready_callback=lambda _consumer: ready.set(),
    )
    thread = threading.Thread(target=worker.start, daemon=True)
    thread.start()
    assert ready.wait(SECONDS)
    try:
        yield
    finally:
        setattr(state, how_to_stop, 0)
        thread.join(SECONDS)
        setattr(state, how_to_stop, None)
    assert not thread.is_alive()


def record_in(portico: PorticoCelery, job_id: UUID, *states: JobStatus) -> JobRecord:
    def there() -> JobRecord | None:
        record = portico.sync.get_record(job_id)
        return record if record is not None and record.job.status in states else None

    found = eventually(there, SECONDS, lambda: f"a job in {states}: {portico.sync.get_record(job_id)}")
    assert found is not None
    return found


@pytest.mark.parametrize("how_to_stop", ["should_stop", "should_terminate"])
def test_the_next_worker_in_the_process_runs_what_was_given_back_and_all_else(
    how_to_stop: str, portico: PorticoCelery, handler: Handler
) -> None:
    with a_worker(portico.app, how_to_stop):
        hanging = portico.sync.create_job("email.send", {"hangs": True}).id
        eventually(lambda: hanging in handler.starts, SECONDS)
        with pytest.raises(StillInUse):
            portico.close()
    given_back = record_in(portico, hanging, JobStatus.RETRYING)
    assert [str(attempt.error).partition(":")[0] for attempt in given_back.attempts] == ["Released"]

    with a_worker(portico.app, "should_stop"):
        # It begins at once, while the threads of the worker before may still be about.
        long = portico.sync.create_job("email.send", {"seconds": LONG}).id
        records = [record_in(portico, job_id, JobStatus.COMPLETED) for job_id in (hanging, long)]

    assert [len(record.attempts) for record in records] == [2, 1]
    assert [record.job.retry_count for record in records] == [0, 0]
    assert sorted(map(handler.starts.count, (hanging, long))) == [1, 2]
