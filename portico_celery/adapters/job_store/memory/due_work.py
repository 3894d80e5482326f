"""What the sweep does in memory: it finds what is due, and deletes what ended long ago."""

from __future__ import annotations

from datetime import datetime, timedelta

from portico_celery import lifecycle
from portico_celery.adapters.job_store.memory.rows import Row, Rows, claimed_of, knock_of
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_store import DueWork


def take_due(rows: Rows, now: datetime, *, limit: int, knock_seconds: float) -> DueWork:
    """Find what is due, and move the due time of the rows to knock for."""
    ripe = [(row.due_at, row) for row in rows if row.due_at is not None and row.due_at <= now]
    ripe.sort(key=lambda pair: pair[0])
    # Limited each by itself: expired leases stay as they are, and must not crowd out the knocks.
    expired = [row for _, row in ripe if row.job.status is JobStatus.RUNNING][:limit]
    knocked = [row for _, row in ripe if row.job.status is not JobStatus.RUNNING][:limit]
    for row in knocked:
        _knock(row, now, knock_seconds)
    more = limit in (len(expired), len(knocked))
    return DueWork(
        knocks=tuple(knock_of(row) for row in knocked),
        expired=tuple(claimed_of(row) for row in expired),
        next_due_in=0.0 if more else _next_due_in(rows, now),
    )


def _knock(row: Row, now: datetime, knock_seconds: float) -> None:
    row.due_at = now + timedelta(seconds=lifecycle.knock_delay(row.knocks, knock_seconds))
    row.job = lifecycle.due(row.job)
    row.knocks += 1


def _next_due_in(rows: Rows, now: datetime) -> float | None:
    due_times = [row.due_at for row in rows if row.due_at is not None]
    return min(((due_at - now).total_seconds() for due_at in due_times if due_at > now), default=None)


def clear_away(rows: Rows, ended_before: datetime) -> None:
    """Delete what ended before a moment, and owes nothing."""
    ended = [(row.job.completed_at or row.job.failed_at, row) for row in rows if row.due_at is None]
    for ended_at, row in ended:
        if ended_at is not None and ended_at < ended_before:
            rows.delete(row)
