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

# A caller learns within this time that the store does not answer.
ANSWER_SECONDS = 2.0
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
            f"no job store for {parsed.get_backend_name()!r}: use postgresql://, sqlite:///path/to/jobs.db, "
            "or memory:// for trials"
        )
    try:
        return make(parsed)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
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
        connect_args={
            "connect_timeout": int(ANSWER_SECONDS),
            "options": options,
            "tcp_user_timeout": milliseconds,
        },
    )
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "checkout", _try_after_idling)
    return engine


def _note_use(_connection: Any, record: Any) -> None:
    record.info["used_at"] = time.monotonic()


def _try_after_idling(connection: Any, record: Any, _proxy: object) -> None:
    # A connection that the server dropped meanwhile is replaced, rather than failing the next job.
    if time.monotonic() - record.info.get("used_at", time.monotonic()) < _IDLE_SECONDS:
        return
    try:
        connection.execute("SELECT 1")
        connection.rollback()
    except Exception as error:
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
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


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
            raise StoreUnavailable(
                f"the job store {url} did not answer: {cause}. Nothing was stored; check that it runs and try again"
            ) from error
        raise StoreError(f"the job store {url} refused: {cause}") from error
    except SQLAlchemyError as error:
        raise StoreError(f"the job store {url} failed: {error}") from error


def _is_outage(error: DBAPIError) -> bool:
    # OperationalError is the DB-API's name for faults outside the program: locked, full, unreachable, read-only.
    return error.connection_invalidated or type(error).__name__ in ("OperationalError", "InterfaceError")
