"""Putting back, in SQL, the jobs that a worker has no handler for; ``lifecycle.postponed`` says it in Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Text,
    Update,
    Uuid,
    and_,
    case,
    func,
    not_,
    or_,
    update,
)

from portico_celery import lifecycle
from portico_celery.adapters.job_store.sql.batch import Batch, batch_parameter, in_rounds
from portico_celery.adapters.job_store.sql.conditions import OWES_LOSS_NOTICE, WAITING, Clock, Now
from portico_celery.adapters.job_store.sql.rows import job_of
from portico_celery.adapters.job_store.sql_schema import JOBS
from portico_celery.adapters.job_store.stored_values import seconds_to_micros
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_store import Postponement

_POSTPONEMENTS = Batch(id=Uuid(), job_type=Text(), patience=BigInteger(), message=Text(), last_message=Text())


def postpone_jobs(connection: Connection, postponements: Sequence[Postponement], clock: Clock) -> list[Job | None]:
    """Put back jobs, or give them up, all in one statement."""
    return in_rounds(
        postponements, lambda postponement: postponement.job_id, lambda some: _put_back(connection, some, clock())
    )


def _put_back(connection: Connection, postponements: Sequence[Postponement], now: Now) -> list[Job | None]:
    dialect = connection.dialect.name
    statement = _update(_POSTPONEMENTS.table(dialect), now)
    rows = batch_parameter(dialect, [_row(postponement) for postponement in postponements])
    jobs = {row.id: job_of(row) for row in connection.execute(statement, rows).all()}
    return [jobs.get(postponement.job_id) for postponement in postponements]


def _row(postponement: Postponement) -> dict[str, Any]:
    job_type, patience = postponement.job_type, postponement.patience
    return {
        "id": postponement.job_id,
        "job_type": job_type,
        "patience": seconds_to_micros(patience),
        "message": lifecycle.no_handler_message(job_type, postponement.worker),
        "last_message": lifecycle.unknown_type_message(job_type, patience),
    }


def _update(batch: FromClause, now: Now) -> Update:
    since = func.coalesce(JOBS.c.unhandled_since, now)
    given_up = now - since >= batch.c.patience
    # What does not wait here is a dead letter that owes its handler a notice: it stays due as it is.
    goes_on, ends = and_(WAITING, not_(given_up)), and_(WAITING, given_up)
    scheduled, run_at = JOBS.c.status == JobStatus.SCHEDULED.value, now + _pause(now - since)
    return (
        update(JOBS)
        .where(
            JOBS.c.id == batch.c.id,
            JOBS.c.job_type == batch.c.job_type,
            or_(and_(WAITING, JOBS.c.run_at <= now), OWES_LOSS_NOTICE),
        )
        .values(
            status=case((ends, JobStatus.DEAD_LETTER.value), (scheduled, JobStatus.PENDING.value), else_=JOBS.c.status),
            error_message=case((WAITING, _message(batch, given_up)), else_=JOBS.c.error_message),
            failed_at=case((ends, now), else_=JOBS.c.failed_at),
            run_at=case((goes_on, run_at), else_=JOBS.c.run_at),
            due_at=case(
                (goes_on, run_at), (and_(ends, JOBS.c.worker_lost), now), (given_up, None), else_=JOBS.c.due_at
            ),
            knocks=case((WAITING, 0), else_=JOBS.c.knocks),
            worker_lost=and_(JOBS.c.worker_lost, or_(WAITING, not_(given_up))),
            unhandled_since=case((given_up, None), else_=since),
        )
        .returning(JOBS)
    )


def _pause(waited: ColumnElement[int]) -> ColumnElement[int]:
    shortest = seconds_to_micros(lifecycle.SHORTEST_POSTPONEMENT)
    longest = seconds_to_micros(lifecycle.LONGEST_POSTPONEMENT)
    return case((waited < shortest, shortest), (waited > longest, longest), else_=waited)


def _message(batch: FromClause, given_up: ColumnElement[bool]) -> ColumnElement[str]:
    message = case((given_up, batch.c.last_message), else_=batch.c.message)
    error = func.coalesce(JOBS.c.error_message, "", type_=Text)
    said_so = and_(JOBS.c.worker_lost, not_(given_up), error.startswith(lifecycle.NO_HANDLER))
    return case((said_so, error), (JOBS.c.worker_lost, message + ". " + error), else_=message)
