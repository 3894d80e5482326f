"""Jobs as commands print them: without payload, metadata and a client's envelope, unless they are asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from portico_celery.cli.output import as_line, as_text
from portico_celery.ports.job import Job
from portico_celery.ports.job_reader import Attempt, JobRecord

_MOST_ERROR_CHARS = 60


def job_summary(job: Job) -> dict[str, Any]:
    """Return a job as JSON has it, by the names that the webhook has for them."""
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


def job_document(record: JobRecord, *, payload: bool) -> dict[str, Any]:
    """Return all that is known of a job as JSON has it, or all but what its creator gave to it."""
    job = record.job
    given = {"payload": job.payload, "metadata": job.metadata, "envelope": record.envelope}
    return {
        **job_summary(job),
        "created_by": None if job.created_by is None else str(job.created_by),
        **(given if payload else {}),
        "result_data": record.result_data,
        "attempts": [_attempt(attempt) for attempt in record.attempts],
    }


def job_row(job: Job) -> tuple[str, ...]:
    """Return a job as a line of a table."""
    names = (as_line(job.job_type), as_line(job.queue_name))
    times = (_to_the_second(job.created_at), _to_the_second(job.completed_at or job.failed_at))
    return (
        str(job.id),
        *names,
        job.status.value,
        f"{job.retry_count}/{job.max_retries}",
        *times,
        _cut(job.error_message),
    )


def job_lines(record: JobRecord, *, payload: bool) -> Iterator[str]:
    """Yield lines for all that is known of a job, the traceback of its last attempt at the end, but no attempts."""
    known = {name: value for name, value in job_document(record, payload=payload).items() if name != "attempts"}
    known["traceback"] = record.attempts[-1].traceback if record.attempts else None
    width = max(map(len, known))
    for name, value in known.items():
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for number, line in enumerate(text.splitlines() or [""]):
                yield f"{('' if number else name).ljust(width)}  {as_line(line)}"


def attempt_rows(record: JobRecord) -> list[tuple[str, ...]]:
    """Return each attempt as a line of a table."""
    return [
        (
            str(attempt.number),
            as_line(attempt.worker),
            _to_the_second(attempt.started_at),
            _to_the_second(attempt.ended_at),
            _cut(attempt.error),
        )
        for attempt in record.attempts
    ]


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "worker": attempt.worker,
        "started_at": _iso(attempt.started_at),
        "ended_at": _iso(attempt.ended_at),
        "error": attempt.error,
        "traceback": attempt.traceback,
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _to_the_second(moment: datetime | None) -> str:
    return "-" if moment is None else as_text(moment)


def _cut(text: str | None) -> str:
    return as_line(text or "-", _MOST_ERROR_CHARS)
