"""The job store in SQL, by SQLAlchemy Core, on PostgreSQL or SQLite: each transition is one atomic statement.

What the statements say is in sql/, a module for each transition; here is which of them need a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, select

from portico_celery.adapters.job_store.sql import reads
from portico_celery.adapters.job_store.sql.bulk_change import delete_jobs, find_discardable, requeue_jobs
from portico_celery.adapters.job_store.sql.cancel import cancel_even_running, cancel_waiting
from portico_celery.adapters.job_store.sql.claim import claim_jobs, is_one_statement
from portico_celery.adapters.job_store.sql.clearance import Clearance
from portico_celery.adapters.job_store.sql.conditions import Now
from portico_celery.adapters.job_store.sql.due_work import take_due
from portico_celery.adapters.job_store.sql.finish import adds_to_history, finish_attempts
from portico_celery.adapters.job_store.sql.insert import insert_jobs
from portico_celery.adapters.job_store.sql.leases import extend_leases, settle_loss
from portico_celery.adapters.job_store.sql.postpone import postpone_jobs
from portico_celery.adapters.job_store.sql_database import SqlDatabase
from portico_celery.adapters.job_store.sql_schedules import SqlScheduleStore
from portico_celery.adapters.job_store.stored_values import moment_of
from portico_celery.ports.job import Job, QueueStats
from portico_celery.ports.job_reader import JobFilter, JobPage, JobRecord
from portico_celery.ports.job_store import (
    DEFAULT_RESULT_TTL,
    Claim,
    ClaimedJob,
    DueWork,
    Finish,
    JobStore,
    Lease,
    Postponement,
    Requeued,
)


class SqlJobStore(JobStore):
    """Keeps jobs in a database. ``result_ttl`` is for how many seconds a job is kept once it has ended.

    ``clock_offset`` (seconds) shifts the store's clock; only tests set it.
    """

    def __init__(self, url: str, *, result_ttl: float = DEFAULT_RESULT_TTL, allow_newer_schema: bool = False) -> None:
        self._database = SqlDatabase(url, allow_newer_schema=allow_newer_schema)
        self._clearance = Clearance(result_ttl)
        self.clock_offset = 0.0

    def initialize(self) -> None:
        """Create or migrate the tables. Idempotent."""
        self._database.prepare()

    def close(self) -> None:
        """Release connections. Idempotent."""
        self._database.close()

    def clock(self) -> datetime:
        """Return the database's time."""
        with self._single_statement() as connection:
            return moment_of(connection.execute(select(self._now())).scalar_one())

    def _now(self) -> Now:
        return self._database.now(self.clock_offset)

    def _single_statement(self) -> AbstractContextManager[Connection]:
        return self._database.single_statement()

    def _transaction(self) -> AbstractContextManager[Connection]:
        return self._database.transaction()

    def schedules(self) -> SqlScheduleStore:
        """Return the schedules of the same database."""
        return SqlScheduleStore(
            transaction=self._transaction,
            single_statement=self._single_statement,
            now=self._now,
            dialect=self._database.dialect,
        )

    def insert(self, jobs: Sequence[Job], *, knock_seconds: float) -> list[tuple[Job, bool]]:
        """Store all jobs whose id is new, or none."""
        if not jobs:
            return []
        with self._single_statement() if len(jobs) == 1 else self._transaction() as connection:
            return insert_jobs(connection, jobs, self._now(), knock_seconds=knock_seconds)

    def claim(self, claims: Sequence[Claim]) -> list[ClaimedJob | None]:
        """Take the jobs that may start now, all in one statement; those to adopt need another."""
        # All or none: a job that was taken by the first statement and is not reported would wait for its lease to end.
        with self._single_statement() if is_one_statement(claims) else self._transaction() as connection:
            return claim_jobs(connection, claims, self._now)

    def finish(self, finishes: Sequence[Finish]) -> list[Job | None]:
        """End attempts, all in one statement; those that ended badly are added to the history with another."""
        with self._transaction() if adds_to_history(finishes) else self._single_statement() as connection:
            return finish_attempts(connection, finishes, self._now)

    def postpone(self, postponements: Sequence[Postponement]) -> list[Job | None]:
        """Put back jobs that a worker has no handler for, all in one statement."""
        with self._single_statement() as connection:
            return postpone_jobs(connection, postponements, self._now)

    def settle_loss(self, lease: Lease) -> None:
        """Note that the handler has heard of the loss."""
        with self._single_statement() as connection:
            settle_loss(connection, lease)

    def extend(self, leases: Sequence[Lease], *, lease_seconds: float) -> list[bool]:
        """Renew leases, all in one statement."""
        with self._single_statement() as connection:
            return extend_leases(connection, leases, self._now(), lease_seconds=lease_seconds)

    def take_due(self, *, limit: int, knock_seconds: float) -> DueWork:
        """Find what is due; a sweep that finds nothing only reads."""
        if self._clearance.begins(self.clock_offset):
            # Where the store is away, this sweep ends here: it must not wait as long again. The next does what is due.
            with self._transaction() as connection:
                self._clearance.delete(connection, self._now())
        with self._single_statement() as connection:
            return take_due(connection, self._now, limit=limit, knock_seconds=knock_seconds)

    def count_knocked(self, queue_name: str) -> int:
        """Count the jobs of a queue that wait and have been knocked for."""
        with self._single_statement() as connection:
            return reads.count_knocked(connection, queue_name)

    def cancel(self, job_id: UUID, *, running: bool = False) -> bool:
        """Cancel a job that has not started or waits for a retry, or, with ``running``, that runs."""
        if running:
            with self._transaction() as connection:
                return cancel_even_running(connection, job_id, self._now)
        with self._single_statement() as connection:
            return cancel_waiting(connection, job_id, self._now())

    def requeue(self, job_filter: JobFilter, *, knock_seconds: float) -> Requeued:
        """Start FAILED and DEAD_LETTER jobs afresh: one statement looks for them, another takes what is still so."""
        with self._single_statement() as connection:
            return requeue_jobs(connection, job_filter, self._now, knock_seconds=knock_seconds)

    def discard(self, job_filter: JobFilter) -> JobPage:
        """Delete jobs that have ended, with their history. They are looked for before anybody has to wait for it."""
        with self._single_statement() as connection:
            found = find_discardable(connection, job_filter)
        if not found.job_ids:
            return JobPage(jobs=(), next_cursor=found.next_cursor)
        with self._transaction() as connection:
            return JobPage(jobs=delete_jobs(connection, found), next_cursor=found.next_cursor)

    def holder(self, job_id: UUID) -> ClaimedJob | None:
        """Return a RUNNING job with the attempt that holds it."""
        with self._single_statement() as connection:
            return reads.holder(connection, job_id)

    def get(self, job_id: UUID) -> JobRecord | None:
        """Return the job with its result and history."""
        with self._single_statement() as connection:
            return reads.get(connection, job_id)

    def list_jobs(self, job_filter: JobFilter) -> JobPage:
        """Return one page of jobs, the newest first."""
        with self._single_statement() as connection:
            return reads.list_jobs(connection, job_filter)

    def stats(self, queue_name: str, *, created_by: UUID | None = None) -> QueueStats:
        """Count the jobs of a queue by state: all of them, or those that one caller has created."""
        with self._single_statement() as connection:
            return reads.stats(connection, queue_name, created_by)

    def oldest_due_seconds(self) -> float:
        """Return for how many seconds the job that is due longest has waited past its time; 0 where none is due."""
        with self._single_statement() as connection:
            return reads.oldest_due_seconds(connection, self._now())
