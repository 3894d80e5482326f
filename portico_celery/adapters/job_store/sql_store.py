"""The job store in SQL, by SQLAlchemy Core, on PostgreSQL or SQLite: each transition is one atomic statement."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Row,
    cast,
    delete,
    func,
    literal,
    select,
    update,
)

from portico_celery.adapters.job_store import sql_reads
from portico_celery.adapters.job_store import sql_statements as sql
from portico_celery.adapters.job_store.sql_batch import batch_parameter, batch_table
from portico_celery.adapters.job_store.sql_engine import ANSWER_SECONDS, make_engine, translated_errors
from portico_celery.adapters.job_store.sql_rows import claimed_of, envelope_of, job_of, seconds_to_micros
from portico_celery.adapters.job_store.sql_schema import ATTEMPTS, JOBS, migrate
from portico_celery.exceptions import StoreUnavailable
from portico_celery.ports.job import Job, JobStatus, QueueStats
from portico_celery.ports.job_reader import JobFilter, JobPage, JobRecord
from portico_celery.ports.job_store import (
    DEFAULT_RESULT_TTL,
    Claim,
    ClaimedJob,
    DueWork,
    Finish,
    JobStore,
    Knock,
    Lease,
    Transition,
)
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

# What ended long ago is deleted this often (seconds), and so many at once.
_CLEARANCE_SECONDS = 60.0
_MOST_DELETED = 500


class SqlJobStore(JobStore):
    """Keeps jobs in a database. ``result_ttl`` is for how many seconds a job is kept once it has ended.

    ``clock_offset`` (seconds) shifts the store's clock; only tests set it.
    """

    def __init__(self, url: str, *, result_ttl: float = DEFAULT_RESULT_TTL) -> None:
        self._result_ttl = result_ttl
        self._next_clearance = 0.0
        self._engine = make_engine(url)
        # The same connections, without a transaction around a single statement, which is one by itself.
        self._autocommit = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._dialect = self._engine.dialect.name
        self._shown_url = self._engine.url.render_as_string(hide_password=True)
        self._initialized = False
        self._initialize_lock = threading.Lock()
        self.clock_offset = 0.0

    def initialize(self) -> None:
        """Create or migrate the tables. Idempotent."""
        if self._initialized:
            return
        # Not for ever: who waits for one that waits for a database that is away has waited long enough.
        if not self._initialize_lock.acquire(timeout=ANSWER_SECONDS):
            raise StoreUnavailable(f"the job store {self._shown_url} is not prepared yet: try again")
        try:
            with translated_errors(self._shown_url), self._engine.begin() as connection:
                migrate(connection)
            self._initialized = True
        finally:
            self._initialize_lock.release()

    def close(self) -> None:
        """Release connections. Idempotent."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        self.initialize()
        with translated_errors(self._shown_url), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _single_statement(self) -> Iterator[Connection]:
        self.initialize()
        with translated_errors(self._shown_url), self._autocommit.connect() as connection:
            yield connection

    def _now(self) -> ColumnElement[int]:
        offset = seconds_to_micros(self.clock_offset)
        if self._dialect == "postgresql":
            epoch = func.extract("epoch", func.statement_timestamp())
            return cast(epoch * 1_000_000, BigInteger) + literal(offset, BigInteger)
        # A SQLite file is on this machine, so that this machine's clock is the store's.
        return literal(time.time_ns() // 1_000 + offset, BigInteger)

    @cached_property
    def _claims(self) -> FromClause:
        return batch_table(self._dialect, sql.CLAIMS)

    @cached_property
    def _finishes(self) -> FromClause:
        return batch_table(self._dialect, sql.FINISHES)

    @cached_property
    def _leases(self) -> FromClause:
        return batch_table(self._dialect, sql.LEASES)

    def _batch(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        # In one order everywhere, so that two processes can't wait for each other's rows. Of two rows for one attempt
        # the first counts: an UPDATE would take either.
        first = {(row["id"], row.get("attempt", 0)): row for row in reversed(rows)}
        return batch_parameter(self._dialect, [first[key] for key in sorted(first)])

    def insert(self, jobs: Sequence[Job], *, knock_seconds: float) -> list[tuple[Job, bool]]:
        """Store all jobs whose id is new, or none."""
        if not jobs:
            return []
        statement = sql.insert_new(self._dialect, self._now(), knock_seconds)
        parameters = [sql.new_row(job) for job in sorted(jobs, key=lambda job: str(job.id))]
        with self._single_statement() if len(jobs) == 1 else self._transaction() as connection:
            created = {row.id: job_of(row) for row in connection.execute(statement, parameters).all()}
            stored = {**created, **_stored(connection, [job.id for job in jobs if job.id not in created])}
        # An id that stands twice among the jobs is created by the first of them.
        return [(stored[job.id], created.pop(job.id, None) is not None) for job in jobs]

    def claim(self, claims: Sequence[Claim]) -> list[ClaimedJob | None]:
        """Take the jobs that may start now, all in one statement; those to adopt need another."""
        statement, rows = sql.claim(self._claims, self._now()), self._batch([sql.claim_row(claim) for claim in claims])
        # Both or neither: a job that was taken by the first and is not reported would wait for its lease to end.
        alone = all(claim.adopt is None for claim in claims)
        with self._single_statement() if alone else self._transaction() as connection:
            taken = {row.id: claimed_of(row) for row in connection.execute(statement, rows).all()}
            # Two claims of one job: the first has it.
            return [taken.pop(claim.job_id, None) or self._adopt(connection, claim) for claim in claims]

    def _adopt(self, connection: Connection, claim: Claim) -> ClaimedJob | None:
        if claim.adopt is None:
            return None
        statement = sql.adopt(self._dialect, claim, claim.adopt, self._now())
        row = connection.execute(statement).one_or_none()
        return None if row is None else claimed_of(row)

    def finish(self, finishes: Sequence[Finish]) -> list[Job | None]:
        """End attempts, all in one statement; those that ended badly are added to the history with another."""
        well = all(finish.transition.status is JobStatus.COMPLETED for finish in finishes)
        found: list[Job | None] = [None] * len(finishes)
        with self._single_statement() if well else self._transaction() as connection:
            for places in _rounds([(finish.job_id, finish.attempt) for finish in finishes]):
                ended = self._end(connection, [finishes[place] for place in places])
                for place, job in zip(places, ended, strict=True):
                    found[place] = job
        return found

    def _end(self, connection: Connection, finishes: Sequence[Finish]) -> list[Job | None]:
        now = self._now()
        statement, rows = sql.finish(self._finishes, now), self._batch([sql.finish_row(finish) for finish in finishes])
        ended = {(row.id, row.attempt): row for row in connection.execute(statement, rows).all()}
        found = [ended.get((finish.job_id, finish.attempt)) for finish in finishes]
        history = [
            _history_row(row, finish.transition)
            for row, finish in zip(found, finishes, strict=True)
            if row is not None and finish.transition.status is not JobStatus.COMPLETED
        ]
        if history:
            connection.execute(ATTEMPTS.insert().values(ended_at=now), history)
        return [None if row is None else job_of(row) for row in found]

    def settle_loss(self, lease: Lease) -> None:
        """Note that the handler has heard of the loss."""
        owing = (JOBS.c.id == lease.job_id, JOBS.c.attempt == lease.attempt, sql.OWES_LOSS_NOTICE)
        with self._single_statement() as connection:
            connection.execute(update(JOBS).where(*owing).values(worker_lost=False, due_at=None))

    def extend(self, leases: Sequence[Lease], *, lease_seconds: float) -> list[bool]:
        """Renew leases, all in one statement."""
        statement = sql.extend(self._leases, self._now(), lease_seconds)
        rows = self._batch([sql.lease_row(lease) for lease in leases])
        with self._single_statement() as connection:
            kept = {(row.id, row.attempt) for row in connection.execute(statement, rows).all()}
        return [(lease.job_id, lease.attempt) in kept for lease in leases]

    def take_due(self, *, limit: int, knock_seconds: float) -> DueWork:
        """Find what is due; a sweep that finds nothing only reads."""
        self._clear_away()
        with self._single_statement() as connection:
            next_due_in = self._next_due_in(connection)
            if next_due_in is None or next_due_in > 0:
                return DueWork(knocks=(), expired=(), next_due_in=next_due_in)
            now = self._now()
            expired = connection.execute(sql.expired(now, limit)).all()
            knocked = connection.execute(sql.knock(now, limit, knock_seconds)).all()
            busy = len(expired) == limit or len(knocked) == limit
            return DueWork(
                knocks=tuple(
                    Knock(job=job_of(row), envelope=envelope_of(row), again=row.knocks > 1) for row in knocked
                ),
                expired=tuple(claimed_of(row) for row in expired),
                next_due_in=0.0 if busy else self._next_due_in(connection, after=now),
            )

    def _clear_away(self) -> None:
        clock = time.monotonic() + self.clock_offset
        if clock < self._next_clearance:
            return
        self._next_clearance = clock + _CLEARANCE_SECONDS
        try:
            with self._transaction() as connection:
                ids = connection.scalars(sql.ended_long_ago(self._now(), self._result_ttl, _MOST_DELETED)).all()
                connection.execute(delete(ATTEMPTS).where(ATTEMPTS.c.job_id.in_(ids)))
                connection.execute(delete(JOBS).where(JOBS.c.id.in_(ids), sql.TERMINAL))
        except StoreUnavailable as error:
            # What is due matters more; the next time will do.
            logger.warning("ended_jobs_not_deleted", error=str(error))
        else:
            self._next_clearance = clock if len(ids) == _MOST_DELETED else self._next_clearance

    def _next_due_in(self, connection: Connection, after: ColumnElement[int] | None = None) -> float | None:
        wait = select(func.min(JOBS.c.due_at) - self._now())
        if after is not None:
            wait = wait.where(JOBS.c.due_at > after)
        microseconds = connection.scalar(wait)
        return None if microseconds is None else max(0.0, microseconds / 1_000_000)

    def count_pending(self, queue_name: str) -> int:
        """Count the PENDING jobs of a queue."""
        with self._single_statement() as connection:
            return sql_reads.count_pending(connection, queue_name)

    def cancel(self, job_id: UUID) -> bool:
        """Cancel a job that has not started or waits for a retry."""
        with self._single_statement() as connection:
            return connection.execute(sql.cancel(job_id, self._now())).rowcount == 1

    def requeue(self, job_id: UUID, *, knock_seconds: float) -> Job | None:
        """Start a FAILED or DEAD_LETTER job afresh."""
        with self._single_statement() as connection:
            row = connection.execute(sql.requeue(job_id, self._now(), knock_seconds)).one_or_none()
            return None if row is None else job_of(row)

    def discard(self, job_id: UUID) -> bool:
        """Delete a job that has ended, with its history."""
        with self._transaction() as connection:
            ended = select(JOBS.c.id).where(JOBS.c.id == job_id, sql.TERMINAL).with_for_update()
            if connection.execute(ended).one_or_none() is None:
                return False
            connection.execute(delete(ATTEMPTS).where(ATTEMPTS.c.job_id == job_id))
            connection.execute(delete(JOBS).where(JOBS.c.id == job_id))
            return True

    def holder(self, job_id: UUID) -> ClaimedJob | None:
        """Return a RUNNING job with the attempt that holds it."""
        with self._single_statement() as connection:
            row = connection.execute(select(JOBS).where(JOBS.c.id == job_id, sql.RUNNING)).one_or_none()
            return None if row is None else claimed_of(row)

    def get(self, job_id: UUID) -> JobRecord | None:
        """Return the job with its result and history."""
        with self._single_statement() as connection:
            return sql_reads.get(connection, job_id)

    def list_jobs(self, job_filter: JobFilter) -> JobPage:
        """Return one page of jobs, the newest first."""
        with self._single_statement() as connection:
            return sql_reads.list_jobs(connection, job_filter)

    def stats(self, queue_name: str) -> QueueStats:
        """Count the jobs of a queue by state."""
        with self._single_statement() as connection:
            return sql_reads.stats(connection, queue_name)


def _rounds(keys: Sequence[tuple[UUID, int]]) -> list[list[int]]:
    # Ends of one attempt are tried one after the other: the first may be the reaper's, and be refused.
    rounds: list[list[int]] = []
    seen: Counter[tuple[UUID, int]] = Counter()
    for place, key in enumerate(keys):
        if seen[key] == len(rounds):
            rounds.append([])
        rounds[seen[key]].append(place)
        seen[key] += 1
    return rounds


def _stored(connection: Connection, job_ids: Sequence[UUID]) -> dict[UUID, Job]:
    if not job_ids:
        return {}
    rows = connection.execute(select(JOBS).where(JOBS.c.id.in_(job_ids))).all()
    return {row.id: job_of(row) for row in rows}


def _history_row(row: Row[Any], transition: Transition) -> dict[str, Any]:
    return {
        "job_id": row.id,
        "number": row.attempt,
        "worker": row.worker,
        "started_at": row.started_at,
        "error": transition.error_message,
        "traceback": transition.traceback,
    }
