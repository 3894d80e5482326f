"""Jobs as commands print them: without payload and metadata, unless they are asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from portico_celery.cli.output import as_line, as_text
from portico_celery.ports.job import Job
from portico_celery.ports.job_reader import Attempt, JobRecord

_MOST_ERROR_CHARS = 60


def job_document(job: Job, *, payload: bool = False) -> dict[str, Any]:
    """Return a job as JSON has it."""
    document = {
        "job_id": str(job.id),
        "job_type": job.job_type,
        "queue_name": job.queue_name,
        "status": job.status.value,
        "priority": job.priority,
        "retry_count": job.retry_count,
        "max_retries": job.max_retries,
        "created_at": _moment(job.created_at),
        "scheduled_at": _moment(job.scheduled_at),
        "started_at": _moment(job.started_at),
        "completed_at": _moment(job.completed_at),
        "failed_at": _moment(job.failed_at),
        "error_message": job.error_message,
    }
    return {**document, "payload": job.payload, "metadata": job.metadata} if payload else document


def record_document(record: JobRecord, *, payload: bool) -> dict[str, Any]:
    """Return a job with its result and attempts as JSON has it."""
    return {
        **job_document(record.job, payload=payload),
        "result_data": record.result_data,
        "attempts": [_attempt_document(attempt) for attempt in record.attempts],
    }


def job_row(job: Job) -> tuple[str, ...]:
    """Return a job as a line of a table."""
    document = job_document(job)
    ended = document["completed_at"] or document["failed_at"] or "-"
    retries = f"{job.retry_count}/{job.max_retries}"
    error = as_line(job.error_message or "-", _MOST_ERROR_CHARS)
    names = (as_line(job.job_type), as_line(job.queue_name))
    return (str(job.id), *names, job.status.value, retries, document["created_at"] or "-", ended, error)


def job_lines(record: JobRecord, *, payload: bool) -> Iterator[str]:
    """Yield a line for each thing that is known of a job, but for its attempts."""
    known = {name: value for name, value in record_document(record, payload=payload).items() if name != "attempts"}
    width = max(map(len, known))
    for name, value in known.items():
        if value is not None:
            yield f"{name.ljust(width)}  {as_line(value if isinstance(value, str) else _as_json(value))}"


def attempt_rows(record: JobRecord) -> list[tuple[str, ...]]:
    """Return each attempt as a line of a table."""
    documents = map(_attempt_document, record.attempts)
    return [
        (
            str(one["number"]),
            as_line(one["worker"]),
            one["started_at"],
            one["ended_at"] or "-",
            as_line(one["error"] or "-"),
        )
        for one in documents
    ]


def _attempt_document(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "worker": attempt.worker,
        "started_at": _moment(attempt.started_at),
        "ended_at": _moment(attempt.ended_at),
        "error": attempt.error,
        "traceback": attempt.traceback,
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else as_text(moment)


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
