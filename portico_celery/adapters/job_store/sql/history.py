"""The history of the attempts that ended badly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row

from portico_celery.adapters.job_store.sql.conditions import Now
from portico_celery.adapters.job_store.sql_schema import ATTEMPTS


def attempt_row(row: Row[Any], error: str | None, traceback: str | None = None) -> dict[str, Any]:
    """Return a row of the history, of the attempt that a job's row tells of."""
    return {
        "job_id": row.id,
        "number": row.attempt,
        "worker": row.worker,
        "started_at": row.started_at,
        "error": error,
        "traceback": traceback,
    }


def remember(connection: Connection, attempts: Sequence[dict[str, Any]], *, ended_at: Now | int) -> None:
    """Add attempts to the history, all in one statement."""
    if attempts:
        connection.execute(ATTEMPTS.insert().values(ended_at=ended_at), attempts)
