"""A job as its creator may see it: without payload, metadata and tracebacks."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from portico_celery.ports.job import Job, QueueStats
from portico_celery.ports.job_reader import Attempt, JobPage, JobRecord


def accepted_document(job: Job, status_url: str | None) -> dict[str, Any]:
    """Return what a client gets for a job it created. ``status_url`` is None where jobs can't be read."""
    return {"job_id": str(job.id), "status": job.status.value, "status_url": status_url}


def job_document(record: JobRecord) -> dict[str, Any]:
    """Return what a client gets that asks for a job."""
    return {
        **job_summary(record.job),
        "result_data": record.result_data,
        "attempts": [_attempt(attempt) for attempt in record.attempts],
    }


def job_summary(job: Job) -> dict[str, Any]:
    """Return what a client gets of a job in a list, or that it has changed."""
    return {
        "job_id": str(job.id),
        "job_type": job.job_type,
        "queue_name": job.queue_name,
        "status": job.status.value,
        "priority": job.priority,
        "retry_count": job.retry_count,
        "max_retries": job.max_retries,
        "created_at": _iso(job.created_at),
        "scheduled_at": _iso(job.scheduled_at),
        "started_at": _iso(job.started_at),
        "completed_at": _iso(job.completed_at),
        "failed_at": _iso(job.failed_at),
        "error_message": job.error_message,
    }


def page_document(page: JobPage) -> dict[str, Any]:
    """Return one page of a list."""
    return {"jobs": [job_summary(job) for job in page.jobs], "next_cursor": page.next_cursor}


def stats_document(stats: QueueStats) -> dict[str, Any]:
    """Return how many jobs of a queue are in which state."""
    return asdict(stats)


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "worker": attempt.worker,
        "started_at": _iso(attempt.started_at),
        "ended_at": _iso(attempt.ended_at),
        "error": attempt.error,
    }


def _iso(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    # A naive time is taken as UTC, as everywhere.
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return aware.isoformat()
