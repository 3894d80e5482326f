"""The SQL store's tables, and how an old database gets to their newest form."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Connection, text

from portico_celery.adapters.job_store import sql_schema
from portico_celery.adapters.job_store.sql_engine import make_engine
from portico_celery.adapters.job_store.sql_store import SqlJobStore
from portico_celery.exceptions import ConfigurationError, StoreError, StoreSchemaTooNew
from portico_celery.ports.job import Job

Migration = Callable[[Connection], None]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def open_store(file: Path) -> Iterator[Callable[[], SqlJobStore]]:
    """Opens the database as a process that starts does."""
    opened: list[SqlJobStore] = []

    def open_it() -> SqlJobStore:
        opened.append(SqlJobStore(f"sqlite:///{file}"))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def migrations(monkeypatch: pytest.MonkeyPatch) -> list[Migration]:
    """A list of its own of the package's migrations, to be added to."""
    migrations = [*sql_schema.MIGRATIONS]
    monkeypatch.setattr(sql_schema, "MIGRATIONS", migrations)
    return migrations


def query(file: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(statement).fetchall()


def columns(file: Path) -> set[object]:
    return {row[1] for row in query(file, "PRAGMA table_info(portico_jobs)")}


def add_column(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE portico_jobs ADD COLUMN colour TEXT DEFAULT 'red'"))


def paint_blue(connection: Connection) -> None:
    connection.execute(text("UPDATE portico_jobs SET colour = 'blue'"))


def an_insert(store: SqlJobStore) -> Job:
    job = Job(id=uuid4(), queue_name="default", job_type="email.send", payload={})
    [(stored, _created)] = store.insert([job], knock_seconds=30)
    return stored


class TestMigrating:
    def test_nothing_is_touched_before_the_first_use(self, file: Path, open_store: Callable[[], SqlJobStore]) -> None:
        store = open_store()
        assert not file.exists()
        store.initialize()
        assert file.exists()

    def test_the_first_call_makes_the_tables(self, file: Path, open_store: Callable[[], SqlJobStore]) -> None:
        an_insert(open_store())
        assert query(file, "SELECT version FROM portico_schema") == [(len(sql_schema.MIGRATIONS),)]
        assert query(file, "SELECT count(*) FROM portico_jobs") == [(1,)]

    def test_a_database_migrates_once(self, open_store: Callable[[], SqlJobStore], migrations: list[Migration]) -> None:
        called: list[str] = []
        migrations.append(lambda _connection: called.append("again"))
        for _ in range(2):
            store = open_store()
            store.initialize()
            store.initialize()
            an_insert(store)
        assert called == ["again"]

    def test_an_old_database_gets_what_it_lacks_and_keeps_its_jobs(
        self, file: Path, open_store: Callable[[], SqlJobStore], migrations: list[Migration]
    ) -> None:
        job = an_insert(open_store())
        old = len(migrations)
        for version, (migration, colour) in enumerate([(add_column, "red"), (paint_blue, "blue")], start=old + 1):
            migrations.append(migration)
            record = open_store().get(job.id)
            assert record is not None
            assert record.job == job
            assert query(file, "SELECT colour FROM portico_jobs") == [(colour,)]
            assert query(file, "SELECT version FROM portico_schema") == [(version,)]

    def test_a_new_database_gets_every_migration(
        self, file: Path, open_store: Callable[[], SqlJobStore], migrations: list[Migration]
    ) -> None:
        migrations.append(add_column)
        an_insert(open_store())
        assert "colour" in columns(file)

    def test_a_migration_that_fails_leaves_the_database_as_it_was(
        self, file: Path, open_store: Callable[[], SqlJobStore], migrations: list[Migration]
    ) -> None:
        job = an_insert(open_store())
        old = len(migrations)

        def break_down(connection: Connection) -> None:
            connection.execute(text("DROP TABLE no_such_table"))

        migrations += [add_column, break_down]
        store = open_store()
        for _ in range(2):
            with pytest.raises(StoreError, match="no such table: no_such_table"):
                store.get(job.id)
        assert "colour" not in columns(file)
        assert query(file, "SELECT version FROM portico_schema") == [(old,)]
        migrations.pop()
        record = store.get(job.id)
        assert record is not None
        assert record.job == job
        assert "colour" in columns(file)

    def test_a_newer_database_is_refused_in_clear_text(
        self, file: Path, open_store: Callable[[], SqlJobStore], migrations: list[Migration]
    ) -> None:
        newest = len(migrations)
        migrations.append(add_column)
        an_insert(open_store())
        migrations.pop()
        store = open_store()
        for call in (store.initialize, lambda: an_insert(store), lambda: store.stats("default")):
            with pytest.raises(StoreSchemaTooNew) as caught:
                call()
            assert f"schema version {newest + 1}, and this portico_celery knows up to {newest}" in str(caught.value)
            assert "upgrade portico_celery here" in str(caught.value)
            assert isinstance(caught.value, ConfigurationError)
        assert query(file, "SELECT version FROM portico_schema") == [(newest + 1,)]


class TestTheFile:
    def test_the_log_is_written_ahead_and_synced_at_each_commit(self, file: Path) -> None:
        engine = make_engine(f"sqlite:///{file}")
        try:
            for _ in range(2):
                with engine.connect() as connection:
                    assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
                    assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        finally:
            engine.dispose()
        assert query(file, "PRAGMA journal_mode") == [("wal",)]

    def test_every_connection_of_a_used_store_syncs(self, open_store: Callable[[], SqlJobStore]) -> None:
        store = open_store()
        an_insert(store)
        store.stats("default")  # after a reading, as well as after a writing
        with store._engine.connect() as one, store._engine.connect() as other:
            for connection in (one, other):
                connection.execution_options(isolation_level="AUTOCOMMIT")
                assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2

    def test_a_reader_does_not_wait_for_a_writer(self, file: Path, open_store: Callable[[], SqlJobStore]) -> None:
        store = open_store()
        job = an_insert(store)
        store.take_due(limit=10, knock_seconds=30)  # the first sweep clears away what is old, and writes
        with closing(sqlite3.connect(file, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("UPDATE portico_jobs SET status = 'failed'")
            record = store.get(job.id)  # a reader that waited would have StoreUnavailable by now
            assert record is not None
            assert record.job == job
            assert store.stats("default").pending_count == 1
            assert store.take_due(limit=10, knock_seconds=30).knocks == ()
            writer.execute("COMMIT")
        assert store.stats("default").failed_count == 1

    @pytest.mark.parametrize(
        ("url", "advice"),
        [
            ("nonsense", "no database URL"),
            ("", "no database URL"),
            ("mysql://localhost/jobs", "no job store for 'mysql'"),
            ("sqlite://", "needs a file, sqlite:///path/to/jobs.db"),
            ("sqlite:///:memory:", "needs a file, sqlite:///path/to/jobs.db"),
            ("sqlite+nothing:///jobs.db", "unknown driver"),
        ],
    )
    def test_a_url_that_can_not_be_served_is_refused_at_once(self, url: str, advice: str) -> None:
        with pytest.raises(ConfigurationError, match=advice):
            SqlJobStore(url)
