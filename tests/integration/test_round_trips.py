"""How often the job store is asked: once to create a job, twice to run one. Counted on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from uuid import UUID

import pytest
from celery import Celery
from sqlalchemy import make_url

from portico_celery import PorticoCelery
from portico_celery.adapters.celery.delivery import Delivery
from portico_celery.adapters.celery.knock import knock_message
from portico_celery.ports.job import Job, JobResult, JobStatus
from portico_celery.ports.job_store import Knock
from tests.faults.tcp_proxy import Link, TCPProxy, Toxic
from tests.postgresql import own_schema
from tests.services import PrivateRedis

JOBS = 20
WARM_UP = 8
# On PostgreSQL a transaction is begun and committed around them.
MOST_FOR_MANY = 3


class RoundTrips(Toxic):
    """Counts how often something is asked of the server after it has answered what was asked before."""

    def __init__(self) -> None:
        super().__init__()
        self._asking: set[Link] = set()

    async def carry(self, link: Link, data: bytes, to: asyncio.StreamWriter) -> None:
        to_server = to is link.ends[1]
        if to_server and link not in self._asking:
            self.bites += 1
            self._asking.add(link)
        elif not to_server:
            self._asking.discard(link)
        await super().carry(link, data, to)


class Noop:
    """Does nothing, well."""

    job_type = "noop"

    async def handle(self, job: Job) -> JobResult:  # noqa: ARG002  # the port's signature
        return JobResult(success=True)

    async def on_failure(self, job: Job, error: Exception) -> None: ...


@contextmanager
def postgresql(request: pytest.FixtureRequest) -> Iterator[str]:
    with own_schema(request.getfixturevalue("postgres_url")) as url:
        yield url


@contextmanager
def redis(request: pytest.FixtureRequest) -> Iterator[str]:
    start: Callable[..., PrivateRedis] = request.getfixturevalue("private_redis")
    yield start().url


@pytest.fixture(params=[postgresql, redis], ids=lambda store: store.__name__)
def store_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with request.param(request) as url:
        yield url


@pytest.fixture
def proxy(store_url: str) -> Iterator[TCPProxy]:
    port = make_url(store_url).port
    with TCPProxy(port or 5432) as proxy:
        yield proxy


@pytest.fixture
def portico(store_url: str, proxy: TCPProxy) -> Iterator[PorticoCelery]:
    app = Celery("counted", broker="portico-memory://", set_as_current=False)
    url = make_url(store_url).set(host="127.0.0.1", port=proxy.port)
    portico = PorticoCelery(app, store=url.render_as_string(hide_password=False))
    portico.register(Noop())
    with closing(portico), closing(app):
        # They connect, prepare the store, and have psycopg prepare its statements, which it does once for each.
        for _ in range(WARM_UP):
            run(portico, portico.sync.create_job("noop", {}))
        yield portico


def run(portico: PorticoCelery, job: Job) -> None:
    """Run a job as the generated task does."""
    knock = knock_message(Knock(job=job), redact=())
    request: dict[str, Any] = {"id": knock.task_id, "headers": knock.headers}
    portico._execution.execute(
        Delivery(job_type=job.job_type, task_id=knock.task_id, worker_name="here", request=request, args=(), kwargs={})
    )


def status(portico: PorticoCelery, job_id: UUID) -> JobStatus:
    job = portico.sync.get_job(job_id)
    assert job is not None
    return job.status


def test_creating_a_job_is_one_and_running_it_two(portico: PorticoCelery, proxy: TCPProxy) -> None:
    creates, runs = RoundTrips(), RoundTrips()
    with proxy.under(creates):
        jobs = [portico.sync.create_job("noop", {"number": number}) for number in range(JOBS)]
    with proxy.under(runs):
        for job in jobs:
            run(portico, job)
    assert (creates.bites, runs.bites) == (JOBS, 2 * JOBS)
    assert {status(portico, job.id) for job in jobs} == {JobStatus.COMPLETED}


def test_creating_many_jobs_at_once_takes_as_many_as_creating_a_few(portico: PorticoCelery, proxy: TCPProxy) -> None:
    few, many = RoundTrips(), RoundTrips()
    for count, trips in ((2, few), (JOBS, many)):
        with proxy.under(trips):
            assert len(portico.sync.create_jobs([{"job_type": "noop", "payload": {}}] * count)) == count
    assert few.bites == many.bites
    assert many.bites <= MOST_FOR_MANY
