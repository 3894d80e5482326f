"""Renewing leases in SQL, and settling what the loss of one has left behind."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Integer, Uuid, update

from portico_celery.adapters.job_store.sql.batch import Batch, batch_parameter
from portico_celery.adapters.job_store.sql.conditions import OWES_LOSS_NOTICE, Now, held_by
from portico_celery.adapters.job_store.sql_schema import JOBS
from portico_celery.adapters.job_store.stored_values import seconds_to_micros
from portico_celery.ports.job_store import Lease

_LEASES = Batch(id=Uuid(), attempt=Integer())


def extend_leases(connection: Connection, leases: Sequence[Lease], now: Now, *, lease_seconds: float) -> list[bool]:
    """Renew leases, all in one statement."""
    dialect = connection.dialect.name
    until = now + seconds_to_micros(lease_seconds)
    statement = update(JOBS).where(*held_by(_LEASES.table(dialect))).values(due_at=until)
    rows = batch_parameter(dialect, [{"id": lease.job_id, "attempt": lease.attempt} for lease in leases])
    renewed = connection.execute(statement.returning(JOBS.c.id, JOBS.c.attempt), rows).all()
    kept = {(row.id, row.attempt) for row in renewed}
    return [(lease.job_id, lease.attempt) in kept for lease in leases]


def settle_loss(connection: Connection, lease: Lease) -> None:
    """Note that the handler of a dead letter has heard of the loss."""
    owing = (JOBS.c.id == lease.job_id, JOBS.c.attempt == lease.attempt, OWES_LOSS_NOTICE)
    connection.execute(update(JOBS).where(*owing).values(worker_lost=False, due_at=None))
