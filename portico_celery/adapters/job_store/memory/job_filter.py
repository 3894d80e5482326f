"""Which rows a JobFilter means, in memory, a page at a time, the newest first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from portico_celery.adapters.job_store.memory.rows import Row, Rows
from portico_celery.adapters.job_store.paging import first_page, unknown_cursor
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import JobFilter


def page_of(rows: Rows, job_filter: JobFilter, states: Collection[JobStatus]) -> tuple[Sequence[Row], str | None]:
    """Return one page of rows in these states, and where the next begins."""
    before = rows.created if job_filter.cursor is None else _position(job_filter.cursor)
    found = [row for row in rows if row.order < before and row.job.status in states and _matches(row.job, job_filter)]
    found.sort(key=lambda row: -row.order)
    return first_page(found, job_filter.limit, cursor_of=lambda row: str(row.order))


def _position(cursor: str) -> int:
    try:
        return int(cursor)
    except ValueError:
        raise unknown_cursor() from None


def _matches(job: Job, wanted: JobFilter) -> bool:
    return (
        wanted.queue_name in (None, job.queue_name)
        and wanted.job_type in (None, job.job_type)
        and wanted.status in (None, job.status)
        and wanted.created_by in (None, job.created_by)
        and (wanted.job_ids is None or job.id in wanted.job_ids)
        and (wanted.error_contains is None or wanted.error_contains in (job.error_message or ""))
        and _ended_as_wanted(job.completed_at or job.failed_at, wanted)
    )


def _ended_as_wanted(ended_at: datetime | None, wanted: JobFilter) -> bool:
    since, until = wanted.ended_since, wanted.ended_until
    if ended_at is None:
        return since is None and until is None
    return (since is None or ended_at >= since) and (until is None or ended_at < until)
