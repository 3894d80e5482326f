"""The tables of the SQL store, and how a database gets to their newest form.

Times are whole microseconds since the epoch, so that arithmetic on them is the same in every database.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    bindparam,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.schema import CreateIndex

from portico_celery.adapters.job_store.schema_version import refuse_newer
from portico_celery.adapters.job_store.sql_engine import unhurried

METADATA = MetaData()

# due_at is when somebody should look at the row: to knock for it while it waits, to reap it once its lease is over
# while it runs. It is NULL where nothing will ever be due. run_at is the earliest moment at which it may start.
JOBS = Table(
    "portico_jobs",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("queue_name", String(255), nullable=False),
    Column("job_type", String(128), nullable=False),
    Column("payload", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("max_retries", Integer, nullable=False),
    Column("retry_count", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("error_message", Text),
    Column("created_by", Uuid),
    Column("metadata", Text, nullable=False),
    Column("scheduled_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("completed_at", BigInteger),
    Column("failed_at", BigInteger),
    Column("run_at", BigInteger, nullable=False),
    Column("due_at", BigInteger),
    Column("knocks", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("worker", String(255), nullable=False),
    # Of the claim by which it runs, or ran last.
    Column("token", Text, nullable=False),
    Column("worker_lost", Boolean, nullable=False),
    # Since when the workers that met it, while it waited, had no handler for it.
    Column("unhandled_since", BigInteger),
    Column("result_data", Text),
    Column("envelope", Text),
)
Index(
    "portico_jobs_due",
    JOBS.c.due_at,
    sqlite_where=JOBS.c.due_at.is_not(None),
    postgresql_where=JOBS.c.due_at.is_not(None),
)
ENDED_AT = func.coalesce(JOBS.c.completed_at, JOBS.c.failed_at)
# What nobody will look at again, by the time since when it may be deleted.
Index(
    "portico_jobs_ended",
    ENDED_AT,
    sqlite_where=JOBS.c.due_at.is_(None),
    postgresql_where=JOBS.c.due_at.is_(None),
)
Index("portico_jobs_queue_status", JOBS.c.queue_name, JOBS.c.status)
Index("portico_jobs_created", JOBS.c.created_at, JOBS.c.id)
# Written out in each statement: a database uses a partial index only where it sees that it holds all that is asked for.
HAS_FAILED = JOBS.c.status.in_(
    bindparam("failed_statuses", ["dead_letter", "failed"], expanding=True, literal_execute=True)
)
# The few that have failed, among the many that have not.
Index("portico_jobs_failed", JOBS.c.created_at, JOBS.c.id, sqlite_where=HAS_FAILED, postgresql_where=HAS_FAILED)
IS_WAITING = JOBS.c.status.in_(
    bindparam("waiting_statuses", ["pending", "retrying", "scheduled"], expanding=True, literal_execute=True)
)
# Who waits longest: the few that have not started, by when they may.
_WAITING_INDEX = Index("portico_jobs_waiting", JOBS.c.run_at, sqlite_where=IS_WAITING, postgresql_where=IS_WAITING)
# Each creator's own jobs, the newest first.
_CREATOR_INDEX = Index(
    "portico_jobs_creator",
    JOBS.c.created_by,
    JOBS.c.created_at,
    JOBS.c.id,
    sqlite_where=JOBS.c.created_by.is_not(None),
    postgresql_where=JOBS.c.created_by.is_not(None),
)

# Attempts that did not succeed. The one that runs, or that completed the job, stands in the job's own row.
ATTEMPTS = Table(
    "portico_attempts",
    METADATA,
    Column("job_id", Uuid, ForeignKey("portico_jobs.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("worker", String(255), nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Column("error", Text),
    Column("traceback", Text),
)

# Fire times up to settled_until have their job, or were given up; those up to owed_until shall have one.
# last_job_id need not be the job of last_fire.
SCHEDULES = Table(
    "portico_schedules",
    METADATA,
    # Of a name that is derived: a job type, a cron line and a zone.
    Column("name", String(320), primary_key=True),
    Column("settled_until", BigInteger, nullable=False),
    Column("owed_until", BigInteger),
    Column("paused_at", BigInteger),
    Column("last_fire", BigInteger),
    Column("last_job_id", Uuid),
    Column("created", BigInteger, nullable=False, default=0),
    Column("missed", BigInteger, nullable=False, default=0),
    Column("skipped", BigInteger, nullable=False, default=0),
)

SCHEMA = Table("portico_schema", METADATA, Column("version", Integer, primary_key=True))


def _create_first_version(connection: Connection) -> None:
    METADATA.create_all(connection, tables=[JOBS, ATTEMPTS])


def _add_schedules(connection: Connection) -> None:
    METADATA.create_all(connection, tables=[SCHEDULES])


def _add_what_schedules_owe(connection: Connection) -> None:
    if any(column["name"] == "owed_until" for column in inspect(connection).get_columns(SCHEDULES.name)):
        return  # made just now, by the migration that adds the table
    connection.execute(text("ALTER TABLE portico_schedules ADD COLUMN owed_until BIGINT"))


def _note_when_schedules_were_paused(connection: Connection) -> None:
    if all(column["name"] != "paused" for column in inspect(connection).get_columns(SCHEDULES.name)):
        return  # made just now, by the migration that adds the table
    connection.execute(text("ALTER TABLE portico_schedules ADD COLUMN paused_at BIGINT"))
    # When it was is not known. From there on nothing is made up for, as before.
    connection.execute(text("UPDATE portico_schedules SET paused_at = settled_until WHERE paused"))
    connection.execute(text("ALTER TABLE portico_schedules DROP COLUMN paused"))


def _add_indexes_of_waiting_and_creator(connection: Connection) -> None:
    for index in (_WAITING_INDEX, _CREATOR_INDEX):
        # A database that begins with this release has them already. SQLAlchemy's own check can't read ENDED_AT's index.
        connection.execute(CreateIndex(index, if_not_exists=True))


# Any number, as long as no other application on the database locks the same.
MIGRATION_LOCK = 7_034_862_113
# Each entry brings a database from the version before it to its own: entry 0 makes version 1.
MIGRATIONS: list[Callable[[Connection], None]] = [
    _create_first_version,
    _add_schedules,
    _add_what_schedules_owe,
    _note_when_schedules_were_paused,
    _add_indexes_of_waiting_and_creator,
]


def migrate(connection: Connection, *, allow_newer: bool = False) -> None:
    """Bring the database to the newest version, in the caller's transaction.

    Raises StoreSchemaTooNew, unless ``allow_newer``.
    """
    # Nearly always there is nothing to do, and nobody to wait for.
    if _version(connection, allow_newer=allow_newer) >= len(MIGRATIONS):
        return
    if connection.dialect.name == "postgresql":
        # Of several processes that start at once, one migrates and the others wait; SQLite's are in line already.
        connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
    pending = MIGRATIONS[_version(connection, allow_newer=allow_newer) :]
    if not pending:
        return
    with unhurried(connection):
        for step in pending:
            step(connection)
    SCHEMA.create(connection, checkfirst=True)
    connection.execute(SCHEMA.delete())
    connection.execute(SCHEMA.insert().values(version=len(MIGRATIONS)))


def _version(connection: Connection, *, allow_newer: bool) -> int:
    if not inspect(connection).has_table(SCHEMA.name):
        return 0
    version = connection.scalar(select(SCHEMA.c.version)) or 0
    refuse_newer(version, known=len(MIGRATIONS), allow_newer=allow_newer)
    return version
