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
    func,
    inspect,
    select,
)

from portico_celery.exceptions import StoreSchemaTooNew

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
    Column("worker_lost", Boolean, nullable=False),
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

SCHEMA = Table("portico_schema", METADATA, Column("version", Integer, primary_key=True))


def _create_first_version(connection: Connection) -> None:
    METADATA.create_all(connection, tables=[JOBS, ATTEMPTS])


# Any number, as long as no other application on the database locks the same.
_MIGRATION_LOCK = 7_034_862_113
# Each entry brings a database from the version before it to its own: entry 0 makes version 1.
MIGRATIONS: list[Callable[[Connection], None]] = [_create_first_version]


def migrate(connection: Connection) -> None:
    """Bring the database to the newest version, in the caller's transaction. Raises StoreSchemaTooNew."""
    if connection.dialect.name == "postgresql":
        # Of several processes that start at once, one migrates and the others wait; SQLite's are in line already.
        connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
    version = 0
    if inspect(connection).has_table(SCHEMA.name):
        version = connection.scalar(select(SCHEMA.c.version)) or 0
    newest = len(MIGRATIONS)
    if version > newest:
        raise StoreSchemaTooNew(
            f"the job store has schema version {version}, and this portico_celery knows up to {newest}: "
            "upgrade portico_celery here, or use another database"
        )
    if version == newest:
        return
    for step in MIGRATIONS[version:]:
        step(connection)
    SCHEMA.create(connection, checkfirst=True)
    connection.execute(SCHEMA.delete())
    connection.execute(SCHEMA.insert().values(version=newest))
