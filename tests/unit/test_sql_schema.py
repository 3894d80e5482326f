"""The SQL store's tables, and how an old database gets to their newest form."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, event, text

from portico_celery.adapters.job_store import sql_schema
from portico_celery.adapters.job_store.sql_engine import make_engine
from portico_celery.adapters.job_store.sql_store import SqlJobStore
from portico_celery.exceptions import ConfigurationError, StoreError, StoreSchemaTooNew
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import JobFilter

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

    def test_it_is_taken_where_that_is_allowed(
        self, file: Path, open_store: Callable[[], SqlJobStore], migrations: list[Migration]
    ) -> None:
        migrations.append(add_column)
        an_insert(open_store())
        migrations.pop()
        store = SqlJobStore(f"sqlite:///{file}", allow_newer_schema=True)
        try:
            assert an_insert(store) is not None
        finally:
            store.close()
        assert query(file, "SELECT version FROM portico_schema") == [(len(migrations) + 1,)]

    def test_schedules_of_the_second_version_are_kept(self, file: Path, open_store: Callable[[], SqlJobStore]) -> None:
        an_insert(open_store())
        with closing(sqlite3.connect(file)) as connection:
            connection.executescript(
                """
                ALTER TABLE portico_schedules DROP COLUMN owed_until;
                ALTER TABLE portico_schedules DROP COLUMN paused_at;
                ALTER TABLE portico_schedules ADD COLUMN paused BOOLEAN NOT NULL DEFAULT 0;
                INSERT INTO portico_schedules (name, settled_until, paused, created, missed, skipped)
                VALUES ('held', 7, 1, 1, 2, 3), ('active', 7, 0, 1, 2, 3);
                UPDATE portico_schema SET version = 2;
                """
            )
        states = open_store().schedules().read(["held", "active"])
        assert {name: (state.paused, state.owed_until, state.missed) for name, state in states.items()} == {
            "held": (True, None, 2),
            "active": (False, None, 2),
        }


def plans_of(store: SqlJobStore) -> list[str]:
    """How the database goes about each further SELECT of jobs."""
    plans: list[str] = []

    def explain(connection: Connection, cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if statement.startswith("SELECT") and "FROM portico_jobs" in statement:
            plan = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.append(" ".join(str(row) for row in plan))

    event.listen(store._database.engine, "before_cursor_execute", explain)
    return plans


class TestFindingFailedJobs:
    @pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.DEAD_LETTER])
    def test_they_are_found_among_many_others_by_an_index_of_their_own(
        self, open_store: Callable[[], SqlJobStore], status: JobStatus
    ) -> None:
        store = open_store()
        an_insert(store)
        plans = plans_of(store)
        wanted = JobFilter(status=status, error_contains="hung up", cursor=f"7-{UUID(int=7)}")
        store.list_jobs(wanted)
        store.requeue(wanted, knock_seconds=30)
        assert len(plans) == 2
        assert all("portico_jobs_failed" in plan and "TEMP B-TREE" not in plan for plan in plans), plans


class TestIndexes:
    def test_a_creators_jobs_and_who_waits_longest_are_read_from_indexes_of_their_own(
        self, open_store: Callable[[], SqlJobStore]
    ) -> None:
        store = open_store()
        an_insert(store)
        plans = plans_of(store)

        store.list_jobs(JobFilter(created_by=UUID(int=7), cursor=f"7-{UUID(int=7)}"))
        store.oldest_due_seconds()

        assert ["portico_jobs_creator" in plans[0], "TEMP B-TREE" in plans[0]] == [True, False], plans
        assert "SEARCH portico_jobs USING INDEX portico_jobs_waiting" in plans[1], plans

    def test_a_database_of_the_release_before_gets_them(
        self, file: Path, open_store: Callable[[], SqlJobStore], migrations: list[Migration]
    ) -> None:
        newest = migrations.pop()
        store = open_store()
        an_insert(store)
        store.close()
        for name in ("portico_jobs_waiting", "portico_jobs_creator"):
            query(file, f"DROP INDEX {name}")

        migrations.append(newest)
        an_insert(open_store())

        names = {name for (name,) in query(file, "SELECT name FROM sqlite_master WHERE type = 'index'")}
        assert {"portico_jobs_waiting", "portico_jobs_creator"} <= names


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

    def test_a_file_that_can_not_be_in_that_mode_is_warned_of(
        self, file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        # With locks as files, as on a file system without shared memory.
        store = SqlJobStore(f"sqlite:///file:{file}?vfs=unix-dotfile&uri=true")
        try:
            an_insert(store)
        finally:
            store.close()
        assert "sqlite_not_in_wal_mode" in caplog.text
        assert "keep the file on a local disk" in caplog.text

    def test_every_connection_of_a_used_store_syncs(self, open_store: Callable[[], SqlJobStore]) -> None:
        store = open_store()
        an_insert(store)
        store.stats("default")  # after a reading, as well as after a writing
        with store._database.engine.connect() as one, store._database.engine.connect() as other:
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
