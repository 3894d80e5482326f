"""The job store in SQL, by SQLAlchemy Core: each transition is one statement, compare-and-set on the row.

The statements say in SQL what portico_celery.lifecycle says in Python; the conformance suite holds them to it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Row,
    Update,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from portico_celery import lifecycle
from portico_celery.adapters.job_store import sql_reads
from portico_celery.adapters.job_store.sql_engine import make_engine, translated_errors
from portico_celery.adapters.job_store.sql_rows import (
    claimed_of,
    dumped,
    envelope_of,
    job_of,
    seconds_to_micros,
    values_of,
)
from portico_celery.adapters.job_store.sql_schema import ATTEMPTS, JOBS, migrate
from portico_celery.ports.job import Job, JobStatus, QueueStats
from portico_celery.ports.job_reader import JobFilter, JobPage, JobRecord
from portico_celery.ports.job_store import (
    Claim,
    ClaimedJob,
    DueWork,
    Finish,
    JobStore,
    Knock,
    Lease,
    Transition,
)

_WAITING = JOBS.c.status.in_([status.value for status in lifecycle.WAITING])
_RUNNING = JOBS.c.status == JobStatus.RUNNING.value
_OWES_LOSS_NOTICE = and_(JOBS.c.worker_lost, JOBS.c.status == JobStatus.DEAD_LETTER.value)
_REQUEUABLE = JOBS.c.status.in_([status.value for status in lifecycle.REQUEUABLE])
_TERMINAL = JOBS.c.status.in_([status.value for status in lifecycle.TERMINAL])


class SqlJobStore(JobStore):
    """Keeps jobs in SQLite. ``clock_offset`` (seconds) shifts the store's clock; only tests set it."""

    def __init__(self, url: str) -> None:
        self._engine = make_engine(url)
        self._shown_url = self._engine.url.render_as_string(hide_password=True)
        self._initialized = False
        self._initialize_lock = threading.Lock()
        self.clock_offset = 0.0

    def initialize(self) -> None:
        """Create or migrate the tables. Idempotent."""
        with self._initialize_lock, translated_errors(self._shown_url):
            if not self._initialized:
                with self._engine.begin() as connection:
                    migrate(connection)
                self._initialized = True

    def close(self) -> None:
        """Release connections. Idempotent."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        self.initialize()
        with translated_errors(self._shown_url), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        # In autocommit, so that a reader neither waits for a writer nor holds one up.
        self.initialize()
        with translated_errors(self._shown_url), self._engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def _now(self) -> ColumnElement[int]:
        # A SQLite file is on this machine, so that this machine's clock is the store's.
        return literal(time.time_ns() // 1_000 + seconds_to_micros(self.clock_offset), BigInteger)

    def insert(self, jobs: Sequence[Job], *, knock_seconds: float) -> list[tuple[Job, bool]]:
        """Store all jobs whose id is new, in one transaction."""
        if not jobs:
            return []
        with self._transaction() as connection:
            created = _insert(connection, jobs, self._now(), knock_seconds)
            missing = [job.id for job in jobs if job.id not in created]
            stored = {**created, **_stored(connection, missing)}
        return [(stored[job.id], created.pop(job.id, None) is not None) for job in jobs]

    def claim(self, claims: Sequence[Claim]) -> list[ClaimedJob | None]:
        """Take each job that may start now, all in one transaction."""
        with self._transaction() as connection:
            return [self._claim(connection, claim) for claim in claims]

    def _claim(self, connection: Connection, claim: Claim) -> ClaimedJob | None:
        now = self._now()
        row = connection.execute(_claim_statement(claim, now)).one_or_none()
        if row is None and claim.adopt is not None:
            row = connection.execute(_adopt_statement(claim, claim.adopt, now)).one_or_none()
        return None if row is None else claimed_of(row)

    def finish(self, finishes: Sequence[Finish]) -> list[Job | None]:
        """End attempts, all in one transaction."""
        with self._transaction() as connection:
            return [self._finish(connection, finish) for finish in finishes]

    def _finish(self, connection: Connection, finish: Finish) -> Job | None:
        now = self._now()
        row = connection.execute(_finish_statement(finish, now)).one_or_none()
        if row is None:
            return None
        if finish.transition.status is not JobStatus.COMPLETED:
            connection.execute(ATTEMPTS.insert().values(**_ended(row, finish.transition, now)))
        return job_of(row)

    def settle_loss(self, lease: Lease) -> None:
        """Note that the handler has heard of the loss."""
        held = and_(JOBS.c.id == lease.job_id, JOBS.c.attempt == lease.attempt, _OWES_LOSS_NOTICE)
        with self._transaction() as connection:
            connection.execute(update(JOBS).where(held).values(worker_lost=False, due_at=None))

    def extend(self, leases: Sequence[Lease], *, lease_seconds: float) -> list[bool]:
        """Renew leases, all in one transaction."""
        with self._transaction() as connection:
            until = self._now() + seconds_to_micros(lease_seconds)
            return [connection.execute(_extend_statement(lease, until)).rowcount == 1 for lease in leases]

    def take_due(self, *, limit: int, knock_seconds: float) -> DueWork:
        """Find what is due; a sweep that finds nothing only reads."""
        with self._reading() as connection:
            next_due_in = self._next_due_in(connection)
        if next_due_in is None or next_due_in > 0:
            return DueWork(knocks=(), expired=(), next_due_in=next_due_in)
        with self._transaction() as connection:
            now = self._now()
            expired = connection.execute(_expired_statement(now, limit)).all()
            knocked = connection.execute(_knock_statement(now, limit, knock_seconds)).all()
            busy = len(expired) == limit or len(knocked) == limit
            return DueWork(
                knocks=tuple(Knock(job=job_of(row), envelope=envelope_of(row)) for row in knocked),
                expired=tuple(claimed_of(row) for row in expired),
                next_due_in=0.0 if busy else self._next_due_in(connection, after=now),
            )

    def _next_due_in(self, connection: Connection, after: ColumnElement[int] | None = None) -> float | None:
        wait = select(func.min(JOBS.c.due_at) - self._now())
        if after is not None:
            wait = wait.where(JOBS.c.due_at > after)
        microseconds = connection.scalar(wait)
        return None if microseconds is None else max(0.0, microseconds / 1_000_000)

    def cancel(self, job_id: UUID) -> bool:
        """Cancel a job that has not started or waits for a retry."""
        with self._transaction() as connection:
            statement = (
                update(JOBS)
                .where(JOBS.c.id == job_id, _WAITING)
                .values(
                    status=JobStatus.FAILED.value,
                    error_message=lifecycle.CANCELLED_MESSAGE,
                    failed_at=self._now(),
                    due_at=None,
                    worker_lost=False,
                )
            )
            return connection.execute(statement).rowcount == 1

    def requeue(self, job_id: UUID, *, knock_seconds: float) -> Job | None:
        """Start a FAILED or DEAD_LETTER job afresh."""
        with self._transaction() as connection:
            row = connection.execute(_requeue_statement(job_id, self._now(), knock_seconds)).one_or_none()
            return None if row is None else job_of(row)

    def discard(self, job_id: UUID) -> bool:
        """Delete a job that has ended, with its history."""
        with self._transaction() as connection:
            ended = select(JOBS.c.id).where(JOBS.c.id == job_id, _TERMINAL)
            connection.execute(delete(ATTEMPTS).where(ATTEMPTS.c.job_id.in_(ended)))
            return connection.execute(delete(JOBS).where(JOBS.c.id == job_id, _TERMINAL)).rowcount == 1

    def holder(self, job_id: UUID) -> ClaimedJob | None:
        """Return a RUNNING job with the attempt that holds it."""
        with self._reading() as connection:
            row = connection.execute(select(JOBS).where(JOBS.c.id == job_id, _RUNNING)).one_or_none()
            return None if row is None else claimed_of(row)

    def get(self, job_id: UUID) -> JobRecord | None:
        """Return the job with its result and history."""
        with self._reading() as connection:
            return sql_reads.get(connection, job_id)

    def list_jobs(self, job_filter: JobFilter) -> JobPage:
        """Return one page of jobs, the newest first."""
        with self._reading() as connection:
            return sql_reads.list_jobs(connection, job_filter)

    def stats(self, queue_name: str) -> QueueStats:
        """Count the jobs of a queue by state."""
        with self._reading() as connection:
            return sql_reads.stats(connection, queue_name)


def _insert(
    connection: Connection, jobs: Sequence[Job], now: ColumnElement[int], knock_seconds: float
) -> dict[UUID, Job]:
    # A second name for scheduled_at: a VALUES expression can't refer to its own row's columns.
    start_at = bindparam("start_at", type_=BigInteger)
    ahead = start_at > now
    statement = insert(JOBS).values(
        status=case((ahead, JobStatus.SCHEDULED.value), else_=JobStatus.PENDING.value),
        run_at=case((ahead, start_at), else_=now),
        due_at=case((ahead, start_at), else_=now + seconds_to_micros(knock_seconds)),
        knocks=case((ahead, 0), else_=1),
        created_at=now,
    )
    statement = statement.on_conflict_do_nothing(index_elements=[JOBS.c.id])
    rows = [values_of(job) for job in jobs]
    parameters = [{**row, **_UNSTARTED, "start_at": row["scheduled_at"]} for row in rows]
    return {row.id: job_of(row) for row in connection.execute(statement.returning(JOBS), parameters)}


_UNSTARTED: dict[str, Any] = {"attempt": 0, "worker": "", "worker_lost": False}


def _stored(connection: Connection, job_ids: Sequence[UUID]) -> dict[UUID, Job]:
    if not job_ids:
        return {}
    rows = connection.execute(select(JOBS).where(JOBS.c.id.in_(job_ids)))
    return {row.id: job_of(row) for row in rows}


def _claim_statement(claim: Claim, now: ColumnElement[int]) -> Update:
    may_start = and_(_WAITING, JOBS.c.run_at <= now)
    # A dead letter that owes its handler a notice is only leased: nothing of it starts.
    return (
        update(JOBS)
        .where(JOBS.c.id == claim.job_id, or_(may_start, _OWES_LOSS_NOTICE))
        .values(
            status=case((_WAITING, JobStatus.RUNNING.value), else_=JOBS.c.status),
            attempt=JOBS.c.attempt + case((_WAITING, 1), else_=0),
            worker=case((_WAITING, claim.worker), else_=JOBS.c.worker),
            started_at=case((_WAITING, now), else_=JOBS.c.started_at),
            knocks=case((_WAITING, 0), else_=JOBS.c.knocks),
            due_at=now + seconds_to_micros(claim.lease_seconds),
        )
        .returning(JOBS)
    )


def _adopt_statement(claim: Claim, job: Job, now: ColumnElement[int]) -> Any:
    statement = insert(JOBS).values(
        **values_of(job),
        status=JobStatus.RUNNING.value,
        created_at=now,
        started_at=now,
        run_at=now,
        due_at=now + seconds_to_micros(claim.lease_seconds),
        knocks=0,
        attempt=1,
        worker=claim.worker,
        worker_lost=False,
        envelope=dumped(claim.envelope),
    )
    return statement.on_conflict_do_nothing(index_elements=[JOBS.c.id]).returning(JOBS)


def _finish_statement(finish: Finish, now: ColumnElement[int]) -> Update:
    transition = finish.transition
    status = transition.status
    run_at = now + seconds_to_micros(transition.delay)
    stays_due = status in lifecycle.WAITING or transition.worker_lost
    held = [JOBS.c.id == finish.job_id, JOBS.c.attempt == finish.attempt, _RUNNING]
    if finish.expired_only:
        held.append(JOBS.c.due_at <= now)
    values: dict[str, Any] = {
        "status": status.value,
        "retry_count": transition.retry_count,
        "worker_lost": transition.worker_lost,
        "result_data": dumped(transition.result_data),
        "run_at": run_at,
        "due_at": run_at if stays_due else None,
    }
    if status is JobStatus.COMPLETED:
        values["completed_at"] = now
    else:
        values["error_message"] = transition.error_message
    if status in lifecycle.REQUEUABLE:
        values["failed_at"] = now
    return update(JOBS).where(*held).values(**values).returning(JOBS)


def _ended(row: Row[Any], transition: Transition, now: ColumnElement[int]) -> dict[str, Any]:
    return {
        "job_id": row.id,
        "number": row.attempt,
        "worker": row.worker,
        "started_at": row.started_at,
        "ended_at": now,
        "error": transition.error_message,
        "traceback": transition.traceback,
    }


def _extend_statement(lease: Lease, until: ColumnElement[int]) -> Update:
    held = and_(JOBS.c.id == lease.job_id, JOBS.c.attempt == lease.attempt, _RUNNING)
    return update(JOBS).where(held).values(due_at=until)


def _expired_statement(now: ColumnElement[int], limit: int) -> Any:
    return select(JOBS).where(JOBS.c.due_at <= now, _RUNNING).order_by(JOBS.c.due_at).limit(limit)


def _knock_statement(now: ColumnElement[int], limit: int, knock_seconds: float) -> Update:
    due = select(JOBS.c.id).where(JOBS.c.due_at <= now, ~_RUNNING).order_by(JOBS.c.due_at).limit(limit)
    longest = seconds_to_micros(lifecycle.MAX_KNOCK_SECONDS)
    doublings = case(
        (JOBS.c.knocks < lifecycle.MAX_KNOCK_DOUBLINGS, JOBS.c.knocks), else_=lifecycle.MAX_KNOCK_DOUBLINGS
    )
    delay = literal(seconds_to_micros(knock_seconds), BigInteger) * cast(literal(1).op("<<")(doublings), Integer)
    return (
        update(JOBS)
        .where(JOBS.c.id.in_(due))
        .values(
            status=case((JOBS.c.status == JobStatus.SCHEDULED.value, JobStatus.PENDING.value), else_=JOBS.c.status),
            due_at=now + case((delay < longest, delay), else_=longest),
            knocks=JOBS.c.knocks + 1,
        )
        .returning(JOBS)
    )


def _requeue_statement(job_id: UUID, now: ColumnElement[int], knock_seconds: float) -> Update:
    return (
        update(JOBS)
        .where(JOBS.c.id == job_id, _REQUEUABLE)
        .values(
            status=JobStatus.PENDING.value,
            retry_count=0,
            scheduled_at=None,
            started_at=None,
            failed_at=None,
            error_message=None,
            result_data=None,
            worker_lost=False,
            knocks=1,
            run_at=now,
            due_at=now + seconds_to_micros(knock_seconds),
        )
        .returning(JOBS)
    )
