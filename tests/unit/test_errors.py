"""Errors are of one tree, and those of vendors are translated into it at the border."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy.exc
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from portico_celery import exceptions
from portico_celery.adapters.job_store.sql_engine import translated_errors
from portico_celery.adapters.job_store.sql_store import SqlJobStore
from portico_celery.exceptions import PorticoError, StoreError, StoreUnavailable
from portico_celery.ports.job import Job
from portico_celery.ports.job_reader import JobFilter
from portico_celery.ports.job_store import Claim, Lease

JOB = Job(id=uuid4(), queue_name="default", job_type="email.send", payload={"password": "tiger"})

ERRORS = [error for error in vars(exceptions).values() if isinstance(error, type) and issubclass(error, Exception)]
OF_INPUT = [
    exceptions.ValidationError,
    exceptions.UnknownJobType,
    exceptions.ConfigurationError,
    exceptions.MissingExtra,
    exceptions.DuplicateHandler,
    exceptions.InvalidSchedule,
    exceptions.StoreSchemaTooNew,
]


def all_subclasses(parent: type[SQLAlchemyError]) -> Iterator[type[SQLAlchemyError]]:
    for child in parent.__subclasses__():
        yield child
        yield from all_subclasses(child)


THEIRS: list[type[SQLAlchemyError]] = [
    SQLAlchemyError,
    *sorted(set(all_subclasses(SQLAlchemyError)), key=lambda error: error.__name__),
]


class TestTheTree:
    @pytest.mark.parametrize("error", ERRORS)
    def test_every_error_is_a_portico_error(self, error: type[Exception]) -> None:
        assert issubclass(error, PorticoError)

    @pytest.mark.parametrize("error", ERRORS)
    def test_every_error_says_what_it_is_for(self, error: type[Exception]) -> None:
        assert error.__doc__

    @pytest.mark.parametrize("error", ERRORS)
    def test_errors_of_configuration_and_input_and_only_these_are_value_errors(self, error: type[Exception]) -> None:
        assert issubclass(error, ValueError) == (error in OF_INPUT)

    def test_the_errors_of_a_store_are_store_errors(self) -> None:
        assert issubclass(StoreUnavailable, StoreError)
        assert issubclass(exceptions.StoreSchemaTooNew, StoreError)

    def test_errors_are_also_what_python_calls_them(self) -> None:
        assert issubclass(exceptions.JobTimedOut, TimeoutError)
        assert issubclass(exceptions.MissingExtra, ImportError)
        assert issubclass(exceptions.ResourceNotFoundError, LookupError)


class TestTranslating:
    @pytest.mark.parametrize("theirs", THEIRS)
    def test_every_error_of_the_sql_library_becomes_one_of_ours(self, theirs: type[SQLAlchemyError]) -> None:
        error = an_error(theirs)
        with pytest.raises(StoreError) as caught, translated_errors("sqlite:///jobs.db"):
            raise error
        assert caught.value.__cause__ is error
        assert "sqlite:///jobs.db" in str(caught.value)

    def test_there_is_something_to_translate(self) -> None:
        assert {"OperationalError", "IntegrityError", "TimeoutError"} <= {error.__name__ for error in THEIRS}

    @pytest.mark.parametrize("theirs", [OperationalError, InterfaceError, sqlalchemy.exc.TimeoutError])
    def test_an_outage_is_worth_another_try(self, theirs: type[SQLAlchemyError]) -> None:
        with pytest.raises(StoreUnavailable, match="try again"), translated_errors("sqlite:///jobs.db"):
            raise an_error(theirs)

    @pytest.mark.parametrize("theirs", [sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError])
    def test_a_fault_of_the_program_is_not(self, theirs: type[SQLAlchemyError]) -> None:
        with pytest.raises(StoreError) as caught, translated_errors("sqlite:///jobs.db"):
            raise an_error(theirs)
        assert not isinstance(caught.value, StoreUnavailable)

    def test_a_connection_that_broke_is_worth_another_try(self) -> None:
        error = DBAPIError("SELECT 1", {}, Exception("gone"), connection_invalidated=True)
        with pytest.raises(StoreUnavailable), translated_errors("sqlite:///jobs.db"):
            raise error

    @pytest.mark.parametrize("error", [StoreError("ours"), KeyError("a fault of the program"), KeyboardInterrupt()])
    def test_any_other_error_passes_as_it_is(self, error: BaseException) -> None:
        with pytest.raises(type(error)) as caught, translated_errors("sqlite:///jobs.db"):
            raise error
        assert caught.value is error
        assert caught.value.__cause__ is None


CALLS: dict[str, Callable[[SqlJobStore], object]] = {
    "initialize": lambda store: store.initialize(),
    "insert": lambda store: store.insert([JOB], knock_seconds=30),
    "claim": lambda store: store.claim([Claim(job_id=JOB.id, worker="worker-1", lease_seconds=30)]),
    "finish": lambda store: store.finish([]),
    "settle_loss": lambda store: store.settle_loss(Lease(job_id=JOB.id, attempt=1)),
    "extend": lambda store: store.extend([Lease(job_id=JOB.id, attempt=1)], lease_seconds=30),
    "take_due": lambda store: store.take_due(limit=10, knock_seconds=30),
    "cancel": lambda store: store.cancel(JOB.id),
    "requeue": lambda store: store.requeue(JobFilter(job_ids=(JOB.id,)), knock_seconds=30),
    "discard": lambda store: store.discard(JobFilter(job_ids=(JOB.id,))),
    "holder": lambda store: store.holder(JOB.id),
    "get": lambda store: store.get(JOB.id),
    "list_jobs": lambda store: store.list_jobs(JobFilter()),
    "stats": lambda store: store.stats("default"),
    "oldest_due_seconds": lambda store: store.oldest_due_seconds(),
}


def outcome(call: Callable[[SqlJobStore], object], store: SqlJobStore) -> tuple[BaseException | None, float]:
    """What the call raised, and how long it took."""
    began = time.monotonic()
    try:
        call(store)
    except Exception as error:  # noqa: BLE001 (whatever it is, the test judges it)
        return error, time.monotonic() - began
    return None, time.monotonic() - began


class TestOutages:
    def test_a_locked_database_is_unavailable_within_two_and_a_half_seconds(self, tmp_path: Path) -> None:
        file = tmp_path / "jobs.db"
        with (
            closing(SqlJobStore(f"sqlite:///{file}")) as used,
            closing(SqlJobStore(f"sqlite:///{file}")) as fresh,
            closing(sqlite3.connect(file, isolation_level=None)) as writer,
            ThreadPoolExecutor(3) as pool,
        ):
            used.insert([JOB], knock_seconds=30)
            writer.execute("BEGIN IMMEDIATE")
            waited = [
                pool.submit(outcome, CALLS["claim"], used),
                pool.submit(outcome, CALLS["insert"], used),
                pool.submit(outcome, CALLS["insert"], fresh),
            ]
            for error, seconds in (future.result() for future in waited):
                assert isinstance(error, StoreUnavailable)
                assert isinstance(error.__cause__, OperationalError)
                assert "database is locked" in str(error)
                assert seconds < 2.5
            writer.execute("ROLLBACK")
            [claimed] = used.claim([Claim(job_id=JOB.id, worker="worker-1", lease_seconds=30)])
            assert claimed is not None

    def test_a_lock_on_a_file_that_is_not_ours_yet_is_waited_for_as_long(self, tmp_path: Path) -> None:
        file = tmp_path / "jobs.db"
        with (
            closing(SqlJobStore(f"sqlite:///{file}")) as store,
            closing(sqlite3.connect(file, isolation_level=None)) as writer,
        ):
            writer.execute("BEGIN EXCLUSIVE")
            error, seconds = outcome(CALLS["insert"], store)
            assert isinstance(error, StoreUnavailable)
            assert seconds < 2.5

    @pytest.mark.parametrize("ours", [True, False], ids=["a file of ours", "a new file"])
    def test_a_lock_that_is_given_back_in_time_is_waited_for(self, tmp_path: Path, ours: bool) -> None:
        file = tmp_path / "jobs.db"
        with (
            closing(SqlJobStore(f"sqlite:///{file}")) as store,
            closing(sqlite3.connect(file, isolation_level=None)) as writer,
            ThreadPoolExecutor(1) as pool,
        ):
            if ours:
                store.initialize()
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("CREATE TABLE theirs (id INTEGER)")
            waiting = pool.submit(store.insert, [JOB], knock_seconds=30)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.1)
            writer.execute("COMMIT")
            assert waiting.result(timeout=30)[0][1]

    @pytest.mark.parametrize("call", CALLS)
    def test_a_file_that_can_not_be_opened_makes_every_call_unavailable(self, tmp_path: Path, call: str) -> None:
        with closing(SqlJobStore(f"sqlite:///{tmp_path / 'missing' / 'jobs.db'}")) as store:
            for _ in range(2):
                error, seconds = outcome(CALLS[call], store)
                assert isinstance(error, StoreUnavailable)
                assert isinstance(error.__cause__, OperationalError)
                assert "unable to open database file" in str(error)
                assert seconds < 2.5

    def test_a_directory_that_comes_later_mends_it(self, tmp_path: Path) -> None:
        with closing(SqlJobStore(f"sqlite:///{tmp_path / 'missing' / 'jobs.db'}")) as store:
            with pytest.raises(StoreUnavailable):
                store.initialize()
            (tmp_path / "missing").mkdir()
            assert store.insert([JOB], knock_seconds=30)[0][1]

    def test_a_file_that_may_only_be_read_is_unavailable_for_writing(self, tmp_path: Path) -> None:
        file = tmp_path / "jobs.db"
        with closing(SqlJobStore(f"sqlite:///{file}")) as store:
            store.insert([JOB], knock_seconds=30)
        with closing(SqlJobStore(f"sqlite:///file:{file}?mode=ro&uri=true")) as store:
            error, seconds = outcome(CALLS["cancel"], store)
            assert isinstance(error, StoreUnavailable)
            assert isinstance(error.__cause__, OperationalError)
            assert "readonly" in str(error)
            assert seconds < 2.5

    def test_a_file_that_is_no_database_is_no_outage(self, tmp_path: Path) -> None:
        file = tmp_path / "jobs.db"
        file.write_text("a letter to the editor\n" * 100)
        with closing(SqlJobStore(f"sqlite:///{file}")) as store:
            with pytest.raises(StoreError, match="file is not a database") as caught:
                store.initialize()
            assert not isinstance(caught.value, StoreUnavailable)
        assert file.read_text().startswith("a letter")

    def test_no_error_shows_what_is_in_a_payload(self, tmp_path: Path) -> None:
        file = tmp_path / "jobs.db"
        with closing(SqlJobStore(f"sqlite:///{file}")) as store:
            store.initialize()
            with closing(sqlite3.connect(file)) as other:
                other.execute("DROP TABLE portico_jobs")
            with pytest.raises(StoreError) as caught:
                store.insert([JOB], knock_seconds=30)
        for error in (caught.value, caught.value.__cause__):
            assert "no such table" in str(error)
            assert "tiger" not in str(error)


def an_error(theirs: type[SQLAlchemyError]) -> SQLAlchemyError:
    """Make an error of the class; some want more arguments than others."""
    cause = sqlite3.OperationalError("disk I/O error")
    orders: list[tuple[Any, ...]] = [
        ("message", {}, cause),
        ("message", "SELECT 1", {}, cause),
        ("message",),
        ("message", "one"),
        ("message", "one", "other"),
        ("message", "one", "other", "third"),
        ("message", [], []),
    ]
    for arguments in orders if issubclass(theirs, sqlalchemy.exc.StatementError) else reversed(orders):
        try:
            error = theirs(*arguments)
            str(error)
        except (TypeError, AttributeError, ValueError):
            continue
        return error
    raise AssertionError(f"no arguments suit {theirs}")
