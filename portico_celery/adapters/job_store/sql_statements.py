"""The transitions in SQL: each compare-and-set on the row, for one job or for many in one statement.

They say in SQL what portico_celery.lifecycle says in Python; the conformance suite holds them to it.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    Text,
    Update,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    literal,
    not_,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from portico_celery import lifecycle
from portico_celery.adapters.job_store.sql_batch import Columns
from portico_celery.adapters.job_store.sql_rows import dumped, seconds_to_micros, values_of
from portico_celery.adapters.job_store.sql_schema import ENDED_AT, JOBS
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_store import Claim, Finish, Lease

Now = ColumnElement[int]

WAITING = JOBS.c.status.in_([status.value for status in lifecycle.WAITING])
RUNNING = JOBS.c.status == JobStatus.RUNNING.value
OWES_LOSS_NOTICE = and_(JOBS.c.worker_lost, JOBS.c.status == JobStatus.DEAD_LETTER.value)
REQUEUABLE = JOBS.c.status.in_([status.value for status in lifecycle.REQUEUABLE])
TERMINAL = JOBS.c.status.in_([status.value for status in lifecycle.TERMINAL])

CLAIMS: Columns = {"id": Uuid(), "worker": Text(), "lease": BigInteger()}
LEASES: Columns = {"id": Uuid(), "attempt": Integer()}
FINISHES: Columns = {
    "id": Uuid(),
    "attempt": Integer(),
    "expired_only": Boolean(),
    "status": Text(),
    "retry_count": Integer(),
    "delay": BigInteger(),
    "stays_due": Boolean(),
    "worker_lost": Boolean(),
    "result_data": Text(),
    "error_message": Text(),
}


def insert_ignoring_known(dialect: str) -> Any:
    """Return an INSERT into the jobs that passes over ids that exist, and returns the rows it made."""
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return insert(JOBS).on_conflict_do_nothing(index_elements=[JOBS.c.id]).returning(JOBS)


def insert_new(dialect: str, now: Now, knock_seconds: float) -> Any:
    """Return the INSERT whose parameters ``new_row`` makes."""
    # A second name for scheduled_at: a VALUES expression can't refer to its own row's columns.
    start_at = bindparam("start_at", type_=BigInteger)
    ahead = start_at > now
    return insert_ignoring_known(dialect).values(
        status=case((ahead, JobStatus.SCHEDULED.value), else_=JobStatus.PENDING.value),
        run_at=case((ahead, start_at), else_=now),
        due_at=case((ahead, start_at), else_=now + seconds_to_micros(knock_seconds)),
        knocks=case((ahead, 0), else_=1),
        created_at=now,
    )


def new_row(job: Job) -> dict[str, Any]:
    """Return the parameters of ``insert_new`` for one job."""
    row = values_of(job)
    return {**row, "start_at": row["scheduled_at"], "attempt": 0, "worker": "", "worker_lost": False}


def adopt(dialect: str, claim: Claim, job: Job, now: Now) -> Any:
    """Return the INSERT of a job that is taken as it is stored."""
    return insert_ignoring_known(dialect).values(
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


def claim(batch: FromClause, now: Now) -> Update:
    """Return the UPDATE that takes the jobs of a batch of CLAIMS."""
    may_start = and_(WAITING, JOBS.c.run_at <= now)
    # A dead letter that owes its handler a notice is only leased: nothing of it starts.
    return (
        update(JOBS)
        .where(JOBS.c.id == batch.c.id, or_(may_start, OWES_LOSS_NOTICE))
        .values(
            status=case((WAITING, JobStatus.RUNNING.value), else_=JOBS.c.status),
            attempt=JOBS.c.attempt + case((WAITING, 1), else_=0),
            worker=case((WAITING, batch.c.worker), else_=JOBS.c.worker),
            started_at=case((WAITING, now), else_=JOBS.c.started_at),
            knocks=case((WAITING, 0), else_=JOBS.c.knocks),
            due_at=now + batch.c.lease,
        )
        .returning(JOBS)
    )


def claim_row(claim: Claim) -> dict[str, Any]:
    """Return a row of CLAIMS."""
    return {"id": claim.job_id, "worker": claim.worker, "lease": seconds_to_micros(claim.lease_seconds)}


def finish(batch: FromClause, now: Now) -> Update:
    """Return the UPDATE that ends the attempts of a batch of FINISHES, where they still hold their jobs."""
    completed = batch.c.status == JobStatus.COMPLETED.value
    ended_badly = batch.c.status.in_([status.value for status in lifecycle.REQUEUABLE])
    run_at = now + batch.c.delay
    return (
        update(JOBS)
        .where(
            JOBS.c.id == batch.c.id,
            JOBS.c.attempt == batch.c.attempt,
            RUNNING,
            or_(not_(batch.c.expired_only), JOBS.c.due_at <= now),
        )
        .values(
            status=batch.c.status,
            retry_count=batch.c.retry_count,
            worker_lost=batch.c.worker_lost,
            result_data=batch.c.result_data,
            error_message=case((completed, JOBS.c.error_message), else_=batch.c.error_message),
            completed_at=case((completed, now), else_=JOBS.c.completed_at),
            failed_at=case((ended_badly, now), else_=JOBS.c.failed_at),
            run_at=run_at,
            due_at=case((batch.c.stays_due, run_at), else_=null()),
        )
        .returning(JOBS)
    )


def finish_row(finish: Finish) -> dict[str, Any]:
    """Return a row of FINISHES."""
    transition = finish.transition
    return {
        "id": finish.job_id,
        "attempt": finish.attempt,
        "expired_only": finish.expired_only,
        "status": transition.status.value,
        "retry_count": transition.retry_count,
        "delay": seconds_to_micros(transition.delay),
        "stays_due": transition.status in lifecycle.WAITING or transition.worker_lost,
        "worker_lost": transition.worker_lost,
        "result_data": dumped(transition.result_data),
        "error_message": transition.error_message,
    }


def extend(batch: FromClause, now: Now, lease_seconds: float) -> Any:
    """Return the UPDATE that renews the leases of a batch of LEASES."""
    held = and_(JOBS.c.id == batch.c.id, JOBS.c.attempt == batch.c.attempt, RUNNING)
    until = now + seconds_to_micros(lease_seconds)
    return update(JOBS).where(held).values(due_at=until).returning(JOBS.c.id, JOBS.c.attempt)


def lease_row(lease: Lease) -> dict[str, Any]:
    """Return a row of LEASES."""
    return {"id": lease.job_id, "attempt": lease.attempt}


def expired(now: Now, limit: int) -> Select[Any]:
    """Return the SELECT of running jobs whose lease is over."""
    return select(JOBS).where(JOBS.c.due_at <= now, RUNNING).order_by(JOBS.c.due_at).limit(limit)


def knock(now: Now, limit: int, knock_seconds: float) -> Update:
    """Return the UPDATE that takes the rows to knock for, and says when to knock next."""
    due = select(JOBS.c.id).where(JOBS.c.due_at <= now, ~RUNNING).order_by(JOBS.c.due_at).limit(limit)
    most = lifecycle.MAX_KNOCK_DOUBLINGS
    doublings = case((JOBS.c.knocks < most, JOBS.c.knocks), else_=most)
    delay = literal(seconds_to_micros(knock_seconds), BigInteger) * cast(literal(1).op("<<")(doublings), Integer)
    longest = seconds_to_micros(lifecycle.MAX_KNOCK_SECONDS)
    return (
        update(JOBS)
        # Where many workers sweep, each takes what no other has in hand.
        .where(JOBS.c.id.in_(due.with_for_update(skip_locked=True)))
        .values(
            status=case((JOBS.c.status == JobStatus.SCHEDULED.value, JobStatus.PENDING.value), else_=JOBS.c.status),
            due_at=now + case((delay < longest, delay), else_=longest),
            knocks=JOBS.c.knocks + 1,
        )
        .returning(JOBS)
    )


def ended_long_ago(now: Now, keep_seconds: float, limit: int) -> Select[Any]:
    """Return the SELECT of the ids of jobs that ended so long ago."""
    old = now - seconds_to_micros(keep_seconds) > ENDED_AT
    found = select(JOBS.c.id).where(JOBS.c.due_at.is_(None), old, TERMINAL)
    return found.limit(limit).with_for_update(skip_locked=True)


def cancel(job_id: UUID, now: Now) -> Update:
    """Return the UPDATE that cancels a job which has not started or waits for a retry."""
    return (
        update(JOBS)
        .where(JOBS.c.id == job_id, WAITING)
        .values(
            status=JobStatus.FAILED.value,
            error_message=lifecycle.CANCELLED_MESSAGE,
            failed_at=now,
            due_at=None,
            worker_lost=False,
        )
    )


def requeue(job_id: UUID, now: Now, knock_seconds: float) -> Update:
    """Return the UPDATE that starts a job afresh."""
    return (
        update(JOBS)
        .where(JOBS.c.id == job_id, REQUEUABLE)
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
