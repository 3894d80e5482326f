"""Taking jobs in SQL, and storing as taken those that are not stored yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Connection, FromClause, Text, Update, Uuid, and_, case, literal, or_, update

from portico_celery.adapters.job_store.sql.batch import Batch, batch_parameter, in_rounds
from portico_celery.adapters.job_store.sql.conditions import OWES_LOSS_NOTICE, RUNNING, WAITING, Clock, Now
from portico_celery.adapters.job_store.sql.insert import insert_ignoring_known
from portico_celery.adapters.job_store.sql.rows import claimed_of
from portico_celery.adapters.job_store.sql_schema import JOBS
from portico_celery.adapters.job_store.stored_values import dumped, seconds_to_micros, values_of
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_store import Claim, ClaimedJob

_CLAIMS = Batch(id=Uuid(), worker=Text(), token=Text(), lease=BigInteger())


def is_one_statement(claims: Sequence[Claim]) -> bool:
    """Whether ``claim_jobs`` is a single statement for these claims."""
    distinct = len({claim.job_id for claim in claims}) == len(claims)
    return distinct and all(claim.adopt is None for claim in claims)


def claim_jobs(connection: Connection, claims: Sequence[Claim], clock: Clock) -> list[ClaimedJob | None]:
    """Take the jobs that may start now, all in one statement; those to adopt need another."""

    def take_or_adopt(claims: Sequence[Claim]) -> list[ClaimedJob | None]:
        taken = _take(connection, claims, clock())
        return [taken.get(claim.job_id) or _adopt(connection, claim, clock) for claim in claims]

    return in_rounds(claims, lambda claim: claim.job_id, take_or_adopt)


def _take(connection: Connection, claims: Sequence[Claim], now: Now) -> dict[UUID, ClaimedJob]:
    dialect = connection.dialect.name
    statement = _update(_CLAIMS.table(dialect), now)
    rows = batch_parameter(dialect, [_row(claim) for claim in claims])
    return {row.id: claimed_of(row) for row in connection.execute(statement, rows).all()}


def _row(claim: Claim) -> dict[str, Any]:
    return {
        "id": claim.job_id,
        "worker": claim.worker,
        "token": claim.token,
        "lease": seconds_to_micros(claim.lease_seconds),
    }


def _update(batch: FromClause, now: Now) -> Update:
    may_start = and_(WAITING, JOBS.c.run_at <= now)
    repeated = and_(RUNNING, JOBS.c.token == batch.c.token)
    # A dead letter that owes its handler a notice is only leased, as a job that runs already: nothing of it starts.
    return (
        update(JOBS)
        .where(JOBS.c.id == batch.c.id, or_(may_start, repeated, OWES_LOSS_NOTICE))
        .values(
            status=case((WAITING, JobStatus.RUNNING.value), else_=JOBS.c.status),
            attempt=JOBS.c.attempt + case((WAITING, 1), else_=0),
            worker=case((WAITING, batch.c.worker), else_=JOBS.c.worker),
            token=case((WAITING, batch.c.token), else_=JOBS.c.token),
            started_at=case((WAITING, now), else_=JOBS.c.started_at),
            knocks=case((WAITING, 0), else_=JOBS.c.knocks),
            due_at=now + batch.c.lease,
            unhandled_since=case((OWES_LOSS_NOTICE, JOBS.c.unhandled_since), else_=None),
        )
        .returning(JOBS)
    )


def _adopt(connection: Connection, claim: Claim, clock: Clock) -> ClaimedJob | None:
    if claim.adopt is None:
        return None
    statement = _insert(connection.dialect.name, claim, claim.adopt, clock())
    row = connection.execute(statement).one_or_none()
    if row is not None:
        # One whose time is ahead was stored as SCHEDULED, and not taken.
        return claimed_of(row) if row.status == JobStatus.RUNNING.value else None
    # It came to be stored meanwhile, perhaps by the first try of this very claim: it is there to be taken.
    return _take(connection, [claim], clock()).get(claim.job_id)


def _insert(dialect: str, claim: Claim, job: Job, now: Now) -> Any:
    values = values_of(job)
    start_at = literal(values["scheduled_at"], BigInteger)
    ahead = start_at > now
    return insert_ignoring_known(dialect).values(
        **values,
        status=case((ahead, JobStatus.SCHEDULED.value), else_=JobStatus.RUNNING.value),
        created_at=now,
        started_at=case((ahead, None), else_=now),
        run_at=case((ahead, start_at), else_=now),
        due_at=case((ahead, start_at), else_=now + seconds_to_micros(claim.lease_seconds)),
        knocks=0,
        attempt=case((ahead, 0), else_=1),
        worker=case((ahead, ""), else_=claim.worker),
        token=case((ahead, ""), else_=claim.token),
        worker_lost=False,
        envelope=dumped(claim.envelope),
    )
