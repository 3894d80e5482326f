"""How the SQL store reaches its database: pragmas, transactions, and errors of our own tree."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from portico_celery.exceptions import ConfigurationError, StoreError, StoreUnavailable
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

# A caller learns within this time that the store does not answer.
ANSWER_SECONDS = 2.0
# A server that does answer has the time to say itself that a statement took it two seconds.
CALL_SECONDS = 2.3
# So long a statement may take that brings an old database to its newest form.
_MIGRATION_SECONDS = 600.0
# PostgreSQL's code for a write to a server that is a standby, or is set to be read-only, which may pass.
_READ_ONLY = "25006"
# A pooled connection that has not been used for this long is tried before it is used again.
_IDLE_SECONDS = 1.0


def make_engine(url: str) -> Engine:
    """Make an engine; nothing connects yet. Raises ConfigurationError for a URL it can't serve."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigurationError(f"portico_store_url is no database URL: {error}") from error
    make = {"sqlite": _make_sqlite_engine, "postgresql": _make_postgresql_engine}.get(parsed.get_backend_name())
    if make is None:
        raise ConfigurationError(
            f"no job store for {parsed.get_backend_name()!r}: use postgresql://, redis://, sqlite:///path/to/jobs.db, "
            "or memory:// for trials"
        )
    try:
        return make(parsed)
    except (NoSuchModuleError, ImportError) as error:  # psycopg without its library is an ImportError, too
        raise ConfigurationError(
            f"portico_store_url needs a driver that is not installed: {error} (for PostgreSQL: "
            "pip install 'portico-celery[postgresql]')"
        ) from error


def _make_postgresql_engine(url: URL) -> Engine:
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    milliseconds = int(ANSWER_SECONDS * 1_000)
    # What the URL itself says comes last, and so wins.
    options = f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds} {url.query.get('options', '')}"
    engine = create_engine(
        url,
        pool_timeout=ANSWER_SECONDS,
        hide_parameters=True,  # they are the payloads, and errors are logged
        # The time for an answer is that of one statement, also where thousands of jobs are created on a busy machine.
        insertmanyvalues_page_size=250,
        connect_args={
            "connect_timeout": int(ANSWER_SECONDS),
            "options": options,
            "tcp_user_timeout": milliseconds,
            # Notices a connection that is idle and whose other end is gone, before somebody needs it.
            "keepalives_idle": 10,
            "keepalives_interval": 2,
            "keepalives_count": 3,
        },
    )
    if engine.driver == "psycopg":
        event.listen(engine, "do_connect", _connect_bounded)
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "checkout", _try_after_idling)
    return engine


def _connect_bounded(_dialect: object, _record: object, arguments: list[Any], options: dict[str, Any]) -> Any:
    # Here, since psycopg is only there where somebody asked for PostgreSQL.
    from portico_celery.adapters.job_store.postgresql_connection import BoundedConnection

    return BoundedConnection.connect(*arguments, **options)


@contextmanager
def unhurried(connection: Connection) -> Iterator[None]:
    """Let the statements of a migration take their time, as no others may, in the transaction that is under way."""
    if connection.dialect.name != "postgresql":
        yield
        return
    milliseconds = int(_MIGRATION_SECONDS * 1_000)
    # Others' locks are still not waited for.
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")
    driver_connection: Any = connection.connection.driver_connection
    usual = getattr(driver_connection, "answer_seconds", None)
    driver_connection.answer_seconds = _MIGRATION_SECONDS
    try:
        yield
    finally:
        driver_connection.answer_seconds = usual


def _note_use(_connection: Any, record: Any) -> None:
    record.info["used_at"] = time.monotonic()


def _try_after_idling(connection: Any, record: Any, _proxy: object) -> None:
    # A connection that the server dropped meanwhile is replaced, rather than failing the next job.
    if time.monotonic() - record.info.get("used_at", time.monotonic()) < _IDLE_SECONDS:
        return
    began = time.monotonic()
    try:
        connection.execute("SELECT 1")
        connection.rollback()
    except Exception as error:
        if time.monotonic() - began > ANSWER_SECONDS:
            raise  # a new connection would have to be waited for as long again
        raise DisconnectionError from error


def _make_sqlite_engine(url: URL) -> Engine:
    if url.database in (None, "", ":memory:"):
        raise ConfigurationError(
            "a SQLite job store needs a file, sqlite:///path/to/jobs.db; for one in memory use memory://"
        )
    try:
        engine = create_engine(
            url,
            connect_args={"timeout": ANSWER_SECONDS},
            pool_timeout=ANSWER_SECONDS,
            hide_parameters=True,  # they are the payloads, and errors are logged
            # SQLite takes ten times as long over one statement of a thousand rows as over ten of a hundred.
            insertmanyvalues_page_size=100,
        )
    except NoSuchModuleError as error:
        raise ConfigurationError(f"portico_store_url names an unknown driver: {error}") from error
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _configure_sqlite(connection: Any, _record: object) -> None:
    # The driver's own transaction handling would begin too late: see _begin_immediate.
    connection.isolation_level = None
    cursor = connection.cursor()
    _switch_to_wal(cursor)
    # FULL syncs at each commit: what was accepted survives a power cut.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _switch_to_wal(cursor: sqlite3.Cursor) -> None:
    # Of two processes that open a new file at once, SQLite may tell one that it is locked without waiting.
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            (mode,) = cursor.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            if mode != "wal":
                _warn_of_journal(mode)
            return


def _warn_of_journal(mode: str) -> None:
    # A file system without shared memory (a network's) can't do it, or another program holds the file otherwise.
    logger.warning(
        "sqlite_not_in_wal_mode",
        journal_mode=mode,
        hint="readers and writers then wait for each other, and jobs are slow: keep the file on a local disk",
    )


def _begin_immediate(connection: Connection) -> None:
    # A transaction that first reads and then writes would fail at once when another writer came between.
    # SQLAlchemy says "begin" in autocommit, too, where there must be none: a reader would wait for the writer.
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def translated_errors(url: str) -> Iterator[None]:
    """Turn SQLAlchemy's errors into StoreUnavailable (try again) or StoreError, with the cause kept."""
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(error, PoolTimeout) or _is_outage(error):
            # Where a connection broke, a statement may be under way that is still carried out.
            lost = isinstance(error, DBAPIError) and error.connection_invalidated
            stored = "Nothing is promised" if lost else "Nothing was stored"
            raise StoreUnavailable(
                f"the job store {url} did not answer: {cause}. {stored}; check that it runs and try again"
            ) from error
        raise StoreError(f"the job store {url} refused: {cause}") from error
    except SQLAlchemyError as error:
        raise StoreError(f"the job store {url} failed: {error}") from error


def _is_outage(error: DBAPIError) -> bool:
    # OperationalError is the DB-API's name for faults outside the program: locked, full, unreachable, read-only.
    if error.connection_invalidated or type(error).__name__ in ("OperationalError", "InterfaceError"):
        return True
    # psycopg counts this one among its InternalErrors.
    return getattr(error.orig, "sqlstate", None) == _READ_ONLY
