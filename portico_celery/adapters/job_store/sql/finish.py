"""Ending attempts in SQL, where they still hold their jobs; ``lifecycle.finished`` says it in Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    FromClause,
    Integer,
    Row,
    Text,
    Update,
    Uuid,
    case,
    not_,
    null,
    or_,
    select,
    update,
)

from portico_celery import lifecycle
from portico_celery.adapters.job_store.sql.batch import Batch, batch_parameter, in_rounds
from portico_celery.adapters.job_store.sql.conditions import Clock, Now, held_by
from portico_celery.adapters.job_store.sql.history import attempt_row, remember
from portico_celery.adapters.job_store.sql.rows import job_of
from portico_celery.adapters.job_store.sql_schema import JOBS
from portico_celery.adapters.job_store.stored_values import dumped, seconds_to_micros
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_store import Finish

_FINISHES = Batch(
    id=Uuid(),
    attempt=Integer(),
    expired_only=Boolean(),
    status=Text(),
    retry_count=Integer(),
    delay=BigInteger(),
    stays_due=Boolean(),
    worker_lost=Boolean(),
    result_data=Text(),
    error_message=Text(),
)


def adds_to_history(finishes: Sequence[Finish]) -> bool:
    """Whether ``finish_attempts`` has more to write than the jobs' own rows."""
    return any(_ends_badly(finish) for finish in finishes)


def finish_attempts(connection: Connection, finishes: Sequence[Finish], clock: Clock) -> list[Job | None]:
    """End attempts, all in one statement; those that ended badly are added to the history with another."""
    return in_rounds(finishes, _attempt, lambda finishes: _end(connection, finishes, clock()))


def _ends_badly(finish: Finish) -> bool:
    return finish.transition.status is not JobStatus.COMPLETED


def _attempt(finish: Finish) -> tuple[UUID, int]:
    return finish.job_id, finish.attempt


def _end(connection: Connection, finishes: Sequence[Finish], now: Now) -> list[Job | None]:
    dialect = connection.dialect.name
    statement = _update(_FINISHES.table(dialect), now)
    rows = batch_parameter(dialect, [_row(finish) for finish in finishes])
    ended = {(row.id, row.attempt): row for row in connection.execute(statement, rows).all()}
    answers = [(finish, ended.get(_attempt(finish))) for finish in finishes]
    history = [_ended_attempt(row, finish) for finish, row in answers if row is not None and _ends_badly(finish)]
    remember(connection, history, ended_at=now)
    before = _finished_before(connection, [finish for finish, row in answers if row is None])
    return [before.get(_attempt(finish)) if row is None else job_of(row) for finish, row in answers]


def _ended_attempt(row: Row[Any], finish: Finish) -> dict[str, Any]:
    return attempt_row(row, finish.transition.error_message, finish.transition.traceback)


def _row(finish: Finish) -> dict[str, Any]:
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


def _update(batch: FromClause, now: Now) -> Update:
    completed = batch.c.status == JobStatus.COMPLETED.value
    ended_badly = batch.c.status.in_([status.value for status in lifecycle.REQUEUABLE])
    run_at = now + batch.c.delay
    return (
        update(JOBS)
        .where(*held_by(batch), or_(not_(batch.c.expired_only), JOBS.c.due_at <= now))
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


def _finished_before(connection: Connection, finishes: Sequence[Finish]) -> dict[tuple[UUID, int], Job]:
    """Find the jobs that stand as finishes which are repeated have left them."""
    repeatable = {_attempt(finish): finish for finish in finishes if not finish.expired_only}
    if not repeatable:
        return {}
    rows = connection.execute(select(JOBS).where(JOBS.c.id.in_([job_id for job_id, _attempt in repeatable]))).all()
    asked = [(row, repeatable.get((row.id, row.attempt))) for row in rows]
    return {(row.id, row.attempt): job_of(row) for row, finish in asked if finish and _is_repeated(row, finish)}


def _is_repeated(row: Row[Any], finish: Finish) -> bool:
    transition = finish.transition
    same_result = row.result_data == dumped(transition.result_data)
    return same_result and lifecycle.is_finished_so(job_of(row), transition)
