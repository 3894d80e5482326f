"""The SQL store's database: its connections, its clock, and the preparation of its tables at the first use."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import BigInteger, ColumnElement, Connection, cast, func, literal

from portico_celery.adapters.job_store.answer_time import answered_within
from portico_celery.adapters.job_store.sql_engine import ANSWER_SECONDS, CALL_SECONDS, make_engine, translated_errors
from portico_celery.adapters.job_store.sql_schema import migrate
from portico_celery.adapters.job_store.stored_values import seconds_to_micros
from portico_celery.exceptions import StoreUnavailable


class SqlDatabase:
    """Hands out connections, whose errors are of our own tree. Nothing connects before the first."""

    def __init__(self, url: str, *, allow_newer_schema: bool) -> None:
        self._allow_newer_schema = allow_newer_schema
        self.engine = make_engine(url)
        # The same connections, without a transaction around a single statement, which is one by itself.
        self._autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self.dialect = self.engine.dialect.name
        self._shown_url = self.engine.url.render_as_string(hide_password=True)
        self._prepared = False
        self._preparing = threading.Lock()
        self._unprepared_at = 0.0

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Return a connection whose statements are carried out together, or none of them."""
        self.prepare()
        with translated_errors(self._shown_url), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def single_statement(self) -> Iterator[Connection]:
        """Return a connection each of whose statements stands for itself."""
        self.prepare()
        # A connection that has been idle is tried first, which is a statement more.
        with (
            translated_errors(self._shown_url),
            answered_within(CALL_SECONDS),
            self._autocommit.connect() as connection,
        ):
            yield connection

    def now(self, offset: float) -> ColumnElement[int]:
        """Return the database's time, shifted by ``offset`` seconds, as a part of a statement: in microseconds."""
        shift = seconds_to_micros(offset)
        if self.dialect == "postgresql":
            epoch = func.extract("epoch", func.statement_timestamp())
            return cast(epoch * 1_000_000, BigInteger) + literal(shift, BigInteger)
        # A SQLite file is on this machine, so that this machine's clock is the store's.
        return literal(time.time_ns() // 1_000 + shift, BigInteger)

    def prepare(self) -> None:
        """Create or migrate the tables. Idempotent."""
        if self._prepared:
            return
        began = time.monotonic()
        # Not for ever: who waits for one that waits for a database that is away has waited long enough.
        if not self._preparing.acquire(timeout=ANSWER_SECONDS):
            raise self._not_prepared()
        try:
            self._prepare(began)
        finally:
            self._preparing.release()

    def _prepare(self, asked_at: float) -> None:
        if self._prepared:
            return
        if self._unprepared_at > asked_at:
            # Whom it waited for has just found out that the database is away: it would take as long again.
            raise self._not_prepared()
        try:
            with translated_errors(self._shown_url), self.engine.begin() as connection:
                migrate(connection, allow_newer=self._allow_newer_schema)
        except StoreUnavailable:
            self._unprepared_at = time.monotonic()
            raise
        self._prepared = True

    def _not_prepared(self) -> StoreUnavailable:
        return StoreUnavailable(f"the job store {self._shown_url} is not prepared yet: try again")

    def close(self) -> None:
        """Release connections. Idempotent; a later call opens them again."""
        self.engine.dispose()
