"""A job store that does not answer is said to be away in time; nothing is accepted meanwhile, and no end is lost."""

from __future__ import annotations

import http
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from celery import Celery
from sqlalchemy import Connection, text

from portico_celery import PorticoCelery
from portico_celery.adapters.job_store import sql_engine, sql_schema
from portico_celery.adapters.job_store.sql.claim import claim_jobs
from portico_celery.adapters.job_store.sql_store import SqlJobStore
from portico_celery.exceptions import StoreUnavailable
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_reader import JobFilter
from portico_celery.ports.job_store import Claim
from tests.contracts.stores import KNOCK, LEASE, a_job
from tests.faults.tcp_proxy import TCPProxy
from tests.faults.toxics import Trickle
from tests.integration.worker_process import Answer, Journey, Web, a_journey
from tests.postgresql import PrivatePostgreSQL, own_schema
from tests.services import PrivateRedis
from tests.waiting import eventually

# The longest that anybody waits to hear that the store is away is 2.5 s. A busy machine notices it somewhat late; to
# wait twice would take longer than this.
ONE_WAIT_SECONDS = 3.9
# Where one may wait twice.
FROZEN_SECONDS = 5.0
SECONDS = 20.0


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Keep everybody else from writing."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


def rows(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("SELECT count(*) FROM portico_jobs").fetchone()[0])


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call returned or raised, and how many seconds it took."""
    began = time.monotonic()
    try:
        outcome = call()
    except StoreUnavailable as error:
        outcome = error
    return outcome, time.monotonic() - began


def all_at_once(calls: list[Callable[[], Any]]) -> list[tuple[Any, float]]:
    """Make calls in as many threads, which begin together."""
    together = threading.Barrier(len(calls))

    def wait_and(call: Callable[[], Any]) -> tuple[Any, float]:
        together.wait()
        return timed(call)

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(wait_and, calls))


class TestClient:
    """An application that creates jobs."""

    @pytest.fixture
    def database(self, tmp_path: Path) -> Path:
        return tmp_path / "jobs.db"

    @pytest.fixture
    def portico(self, database: Path) -> Iterator[PorticoCelery]:
        with a_client(f"sqlite:///{database}") as portico:
            yield portico

    def test_creating_fails_in_time_with_what_to_check_and_works_again_when_the_store_is_back(
        self, portico: PorticoCelery, database: Path
    ) -> None:
        portico.sync.create_job("email.send", {})
        with locked(database):
            error, seconds = timed(lambda: portico.sync.create_job("email.send", {}))
            assert isinstance(error, StoreUnavailable)
            assert f"the job store sqlite:///{database} did not answer: database is locked" in str(error)
            assert "Nothing was stored" in str(error)
            assert "try again" in str(error)
            assert seconds < ONE_WAIT_SECONDS
        portico.sync.create_job("email.send", {})
        assert rows(database) == 2

    def test_a_store_that_is_away_at_the_first_use_is_used_when_it_is_there(
        self, portico: PorticoCelery, database: Path
    ) -> None:
        # A new file, that is not in the mode yet in which readers and writers don't meet.
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("CREATE TABLE somebody_elses (id INTEGER)")
        with locked(database):
            error, seconds = timed(lambda: portico.sync.create_job("email.send", {}))
            assert isinstance(error, StoreUnavailable)
            assert seconds < ONE_WAIT_SECONDS
        portico.sync.create_job("email.send", {})
        assert rows(database) == 1

    def test_a_crowd_hears_of_it_in_the_time_of_one(self, portico: PorticoCelery, database: Path) -> None:
        job, failed = portico.sync.create_job("email.send", {}), portico.sync.create_job("email.send", {})
        portico.sync.cancel_job(failed.id)
        calls: list[Callable[[], Any]] = [
            *[lambda: portico.sync.create_job("email.send", {})] * 50,
            # Calls that can't travel together.
            *[lambda: portico.sync.cancel_job(job.id)] * 10,
            *[lambda: portico.sync.requeue_job(failed.id)] * 10,
        ]
        with locked(database):
            answers = all_at_once(calls)
        assert [type(outcome) for outcome, _seconds in answers] == [StoreUnavailable] * len(calls)
        assert max(seconds for _outcome, seconds in answers) < ONE_WAIT_SECONDS
        assert rows(database) == 2

    def test_jobs_can_still_be_looked_at(self, portico: PorticoCelery, database: Path) -> None:
        job = portico.sync.create_job("email.send", {})
        with locked(database):
            assert portico.sync.get_job(job.id) == job  # who waited would get an error


class TestFrozenServer:
    """A server whose machine stands still: it takes connections and data, and never answers."""

    @pytest.fixture(params=["postgresql", "redis"])
    def server(self, request: pytest.FixtureRequest) -> PrivatePostgreSQL | PrivateRedis:
        started: PrivatePostgreSQL | PrivateRedis = request.getfixturevalue(f"private_{request.param}")()
        return started

    @pytest.fixture
    def portico(self, server: PrivatePostgreSQL | PrivateRedis) -> Iterator[PorticoCelery]:
        with a_client(server.url) as portico:
            yield portico

    def test_creating_fails_in_time_and_works_again_when_the_server_goes_on(
        self, portico: PorticoCelery, server: PrivatePostgreSQL | PrivateRedis
    ) -> None:
        before = portico.sync.create_job("email.send", {"number": 1})
        with frozen(server):
            # The first waits on the connection it has, the second for a new one.
            answers = [timed(lambda: portico.sync.create_job("email.send", {})) for _ in range(2)]
        for error, seconds in answers:
            assert isinstance(error, StoreUnavailable)
            assert "did not answer" in str(error)
            assert seconds < FROZEN_SECONDS
        # What the server has been sent it may carry out when it goes on.
        assert "Nothing is promised" in str(answers[0][0])
        after = portico.sync.create_job("email.send", {"number": 2})
        for job in (before, after):
            assert portico.sync.get_job(job.id) == job

    def test_a_crowd_hears_of_it_in_the_time_of_one(
        self, portico: PorticoCelery, server: PrivatePostgreSQL | PrivateRedis
    ) -> None:
        job = portico.sync.create_job("email.send", {})
        assert portico.sync.get_job(job.id) == job
        calls: list[Callable[[], Any]] = [
            *[lambda: portico.sync.create_job("email.send", {})] * 20,
            *[lambda: portico.sync.create_jobs([{"job_type": "email.send", "payload": {}}] * 20)] * 5,
            *[lambda: portico.sync.cancel_job(job.id)] * 5,
            *[lambda: portico.sync.cancel_job(job.id, running=True)] * 5,
            *[lambda: portico.sync.get_job(job.id)] * 5,
            *[lambda: portico.sync.list_jobs(JobFilter())] * 5,
        ]
        with frozen(server):
            for _ in range(2):
                answers = all_at_once(calls)
                assert [type(outcome) for outcome, _seconds in answers] == [StoreUnavailable] * len(calls)
                assert max(seconds for _outcome, seconds in answers) < ONE_WAIT_SECONDS
        assert portico.sync.create_job("email.send", {}).status is JobStatus.PENDING

    def test_a_server_that_is_frozen_at_the_first_use_is_used_when_it_goes_on(
        self, portico: PorticoCelery, server: PrivatePostgreSQL | PrivateRedis
    ) -> None:
        calls: list[Callable[[], Any]] = [
            *[lambda: portico.sync.create_job("email.send", {})] * 5,
            *[lambda: portico.sync.list_jobs(JobFilter())] * 5,
        ]
        with frozen(server):
            answers = all_at_once(calls)
        assert [type(outcome) for outcome, _seconds in answers] == [StoreUnavailable] * len(calls)
        assert max(seconds for _outcome, seconds in answers) < ONE_WAIT_SECONDS
        assert portico.sync.create_job("email.send", {}).status is JobStatus.PENDING

    def test_a_connection_that_was_idle_is_not_waited_for_twice(
        self,
        private_postgresql: Callable[[], PrivatePostgreSQL],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(sql_engine, "_IDLE_SECONDS", -1.0)
        server = private_postgresql()
        with a_client(server.url) as portico:
            portico.sync.create_job("email.send", {})
            with frozen(server):
                error, seconds = timed(lambda: portico.sync.create_job("email.send", {}))
            assert isinstance(error, StoreUnavailable)
            assert seconds < ONE_WAIT_SECONDS
            portico.sync.create_job("email.send", {})


class TestBusyServer:
    """A PostgreSQL that answers, and has reason to take its time."""

    @pytest.fixture
    def url(self, postgres_url: str) -> Iterator[str]:
        with own_schema(postgres_url) as url:
            yield url

    def test_a_row_that_somebody_has_locked_is_not_waited_for(self, url: str) -> None:
        with a_client(url) as portico, psycopg.connect(url) as somebody:
            job = portico.sync.create_job("email.send", {})
            somebody.execute("SELECT * FROM portico_jobs FOR UPDATE")
            error, seconds = timed(lambda: portico.sync.cancel_job(job.id))
            assert isinstance(error, StoreUnavailable)
            assert "canceling statement due to" in str(error)  # the server's own words
            assert "Nothing was stored" in str(error)
            assert seconds < FROZEN_SECONDS
            somebody.rollback()
            assert portico.sync.cancel_job(job.id)

    def test_an_answer_that_trickles_in_is_not_waited_for_to_its_end(self, url: str) -> None:
        parts = urlsplit(url)
        with TCPProxy(parts.port or 0) as proxy:
            slow_url = parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{proxy.port}")).geturl()
            with a_client(slow_url) as portico:
                job = portico.sync.create_job("email.send", {"text": "x" * 30_000})
                assert portico.sync.get_job(job.id) == job
                with proxy.under(Trickle(byte_count=20, pause=0.02)):
                    error, seconds = timed(lambda: portico.sync.get_job(job.id))
                assert isinstance(error, StoreUnavailable)
                assert "no answer within" in str(error)
                assert seconds < FROZEN_SECONDS
                assert portico.sync.get_job(job.id) == job

    @pytest.mark.parametrize("adopted", [False, True])
    def test_a_claim_is_repeated_while_its_first_try_is_still_under_way(self, url: str, adopted: bool) -> None:
        job = a_job()
        claim = Claim(job_id=job.id, worker="worker-1", lease_seconds=LEASE, adopt=job if adopted else None)
        with closing(SqlJobStore(url)) as store, psycopg.connect(url) as observer, ThreadPoolExecutor(1) as thread:
            store.insert([a_job() if adopted else job], knock_seconds=KNOCK)
            with store._transaction() as first_try:
                [first] = claim_jobs(first_try, [claim], store._now)
                repeated = thread.submit(store.claim, [claim])
                eventually(lambda: somebody_waits_for_a_lock(observer), SECONDS)
            assert first is not None
            assert repeated.result(SECONDS) == [first]

    def test_a_migration_may_take_longer_than_any_other_statement(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def rebuild(connection: Connection) -> None:
            connection.execute(text("SELECT pg_sleep(2.8)"))

        monkeypatch.setattr(sql_schema, "MIGRATIONS", [*sql_schema.MIGRATIONS, rebuild])
        with closing(SqlJobStore(url)) as store:
            store.initialize()
            error, seconds = timed(lambda: slow_statement(store))
        assert isinstance(error, StoreUnavailable)
        assert seconds < FROZEN_SECONDS


def somebody_waits_for_a_lock(connection: psycopg.Connection[Any]) -> bool:
    # Among the sessions that have this schema: the server may be others' too.
    found = connection.execute(
        "SELECT 1 FROM pg_locks AS waiting JOIN pg_locks AS held ON held.transactionid = waiting.transactionid "
        "JOIN pg_locks AS ours ON ours.pid = held.pid AND ours.relation = to_regclass('portico_jobs') "
        "WHERE held.granted AND NOT waiting.granted"
    ).fetchone()
    return found is not None


def slow_statement(store: SqlJobStore) -> None:
    with store._single_statement() as connection:
        connection.execute(text("SELECT pg_sleep(60)"))


@contextmanager
def a_client(store: str) -> Iterator[PorticoCelery]:
    """An application that creates jobs in this store."""
    app = Celery("client", broker="portico-memory://", set_as_current=False)
    portico = PorticoCelery(app, store=store)
    portico.declare("email.send")
    yield portico
    portico.close()
    app.close()


@contextmanager
def frozen(server: PrivatePostgreSQL | PrivateRedis) -> Iterator[None]:
    """Stop the server where it stands for the length of the block."""
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


class TestProcesses:
    """The web application and workers."""

    @pytest.fixture
    def journey(self, amqp_url: str, tmp_path: Path) -> Iterator[Journey]:
        with a_journey(amqp_url, tmp_path, sweep_seconds=0.2) as journey:
            journey.portico.app.conf.portico_knock_seconds = 1
            yield journey

    def test_the_webhook_answers_503_in_time_and_never_202_and_recovers_by_itself(self, journey: Journey) -> None:
        database = journey.directory / "jobs.db"
        with journey.web() as web:
            accepted = [post(web).status for _ in range(3)]
            with locked(database):
                refused = all_at_once([lambda: post(web)] * 4)
            accepted.extend(post(web).status for _ in range(3))

        assert accepted == [http.HTTPStatus.ACCEPTED] * 6
        for answer, seconds in refused:
            assert seconds < ONE_WAIT_SECONDS
            assert answer.status == http.HTTPStatus.SERVICE_UNAVAILABLE
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert int(answer.headers["Retry-After"]) > 0
            assert answer.document["status"] == http.HTTPStatus.SERVICE_UNAVAILABLE
            assert "job store" in answer.document["detail"]
        assert rows(database) == len(accepted)

    def test_the_end_of_a_job_is_recorded_once_when_the_store_is_back(self, journey: Journey) -> None:
        with journey.worker("threads") as worker:
            may_end = journey.directory / "may-end"
            job_id = journey.create("journey.succeed", {"until": str(may_end)})
            journey.started(job_id)
            with locked(journey.directory / "jobs.db"):
                may_end.touch()
                # The job ends within the two seconds after which this fails, and the next two as well.
                for _ in range(2):
                    with pytest.raises(StoreUnavailable):
                        journey.create("journey.succeed")
                assert journey.record(job_id).job.status is JobStatus.RUNNING
            record = journey.completed(job_id)
            assert worker.running
        assert len(record.attempts) == 1
        assert record.result_data == {"payload": {"until": str(may_end)}}
        assert len(journey.ledger(job_id, "start")) == 1

    def test_a_job_that_no_worker_could_claim_is_run_when_the_store_is_back(self, journey: Journey) -> None:
        job_id = journey.create("journey.succeed", {"number": str(uuid4())})
        assert journey.portico.flush(SECONDS)
        with ExitStack() as workers:
            with locked(journey.directory / "jobs.db"):
                worker = workers.enter_context(journey.worker("prefork"))
                journey.eventually(lambda: "claim_waits_for_store" in worker.log, "a claim without an answer", SECONDS)
            journey.completed(job_id)
        assert len(journey.ledger(job_id, "start")) == 1


def post(web: Web) -> Answer:
    return web.post("/webhooks/jobs", {"job_type": "journey.succeed", "payload": {}})
