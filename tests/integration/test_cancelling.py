"""A job is cancelled through the whole of an application's client: service, queue, I/O thread, store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from celery import Celery

from portico_celery import PorticoCelery
from portico_celery.adapters.job_store.sql_store import SqlJobStore
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_store import Claim, Lease


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'jobs.db'}"


@pytest.fixture
def portico(url: str) -> Iterator[PorticoCelery]:
    app = Celery("client", broker="portico-memory://", set_as_current=False)
    portico = PorticoCelery(app, store=url)
    portico.declare("email.send")
    yield portico
    portico.close()
    app.close()


@pytest.fixture
def running(portico: PorticoCelery, worker: SqlJobStore) -> Job:
    job = portico.sync.create_job("email.send", {})
    [claimed] = worker.claim([Claim(job_id=job.id, worker="worker-1", lease_seconds=30)])
    assert claimed is not None
    return claimed.job


@pytest.fixture
def worker(url: str) -> Iterator[SqlJobStore]:
    with closing(SqlJobStore(url)) as store:
        yield store


def test_a_running_job_is_not_cancelled_unless_it_is_asked_for(portico: PorticoCelery, running: Job) -> None:
    assert portico.sync.cancel_job(running.id) is False
    assert asyncio.run(portico.queue.cancel_job(str(running.id))) is False
    assert portico.sync.get_job(running.id) == running


@pytest.mark.parametrize("face", ["sync", "service", "queue"])
def test_a_running_job_is_cancelled_and_its_worker_has_lost_it(
    portico: PorticoCelery, worker: SqlJobStore, running: Job, face: str
) -> None:
    cancelled = getattr(portico, face).cancel_job(running.id, running=True)
    assert (cancelled if face == "sync" else asyncio.run(cancelled)) is True
    job = portico.sync.get_job(running.id)
    assert job is not None
    assert (job.status, job.error_message) == (JobStatus.FAILED, "Job cancelled")
    assert worker.extend([Lease(job_id=running.id, attempt=1)], lease_seconds=30) == [False]
