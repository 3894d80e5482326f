"""A job store that does not answer is said to be away in time; nothing is accepted meanwhile, and no end is lost."""

from __future__ import annotations

import http
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery

from portico_celery import PorticoCelery
from portico_celery.exceptions import StoreUnavailable
from portico_celery.ports.job import JobStatus
from tests.integration.worker_process import Answer, Journey, Web, a_journey

# The longest that anybody waits to hear that the store is away.
ANSWER_SECONDS = 2.5
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
        app = Celery("client", broker="portico-memory://", set_as_current=False)
        portico = PorticoCelery(app, store=f"sqlite:///{database}")
        portico.declare("email.send")
        yield portico
        portico.close()
        app.close()

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
            assert seconds < ANSWER_SECONDS
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
            assert seconds < ANSWER_SECONDS
        portico.sync.create_job("email.send", {})
        assert rows(database) == 1

    def test_a_crowd_hears_of_it_in_the_time_of_one(self, portico: PorticoCelery, database: Path) -> None:
        job = portico.sync.create_job("email.send", {})
        calls: list[Callable[[], Any]] = [
            *[lambda: portico.sync.create_job("email.send", {})] * 50,
            # Calls that can't travel together.
            *[lambda: portico.sync.cancel_job(job.id)] * 10,
            *[lambda: portico.sync.requeue_job(job.id)] * 10,
        ]
        with locked(database):
            answers = all_at_once(calls)
        assert [type(outcome) for outcome, _seconds in answers] == [StoreUnavailable] * len(calls)
        assert max(seconds for _outcome, seconds in answers) < ANSWER_SECONDS
        assert rows(database) == 1

    def test_jobs_can_still_be_looked_at(self, portico: PorticoCelery, database: Path) -> None:
        job = portico.sync.create_job("email.send", {})
        with locked(database):
            found, seconds = timed(lambda: portico.sync.get_job(job.id))
        assert found == job
        assert seconds < 1.0


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
            assert seconds < ANSWER_SECONDS
            assert answer.status == http.HTTPStatus.SERVICE_UNAVAILABLE
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert int(answer.headers["Retry-After"]) > 0
            assert answer.document["status"] == http.HTTPStatus.SERVICE_UNAVAILABLE
            assert "job store" in answer.document["detail"]
        assert rows(database) == len(accepted)

    def test_the_end_of_a_job_is_recorded_once_when_the_store_is_back(self, journey: Journey) -> None:
        with journey.worker("threads") as worker:
            job_id = journey.create("journey.succeed", {"seconds": 0.5})
            journey.started(job_id)
            with locked(journey.directory / "jobs.db"):
                # The job ends within the two seconds after which this fails, and the next two as well.
                for _ in range(2):
                    with pytest.raises(StoreUnavailable):
                        journey.create("journey.succeed")
                assert journey.record(job_id).job.status is JobStatus.RUNNING
            record = journey.completed(job_id)
            assert worker.running
        assert len(record.attempts) == 1
        assert record.result_data == {"payload": {"seconds": 0.5}}
        assert len(journey.ledger(job_id, "start")) == 1

    def test_a_job_that_no_worker_could_claim_is_run_when_the_store_is_back(self, journey: Journey) -> None:
        job_id = journey.create("journey.succeed", {"number": str(uuid4())})
        assert journey.portico.flush(SECONDS)
        with locked(journey.directory / "jobs.db"):
            worker = journey.worker("prefork").__enter__()
            journey.eventually(lambda: "claim_failed" in worker.log, "a claim that fails", SECONDS)
        with worker:
            journey.completed(job_id)
        assert len(journey.ledger(job_id, "start")) == 1


def post(web: Web) -> Answer:
    return web.post("/webhooks/jobs", {"job_type": "journey.succeed", "payload": {}})
