"""The forms in which the stores keep values: times as whole microseconds since the epoch, mappings as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from portico_celery.ports.job import Job

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """Return microseconds since the epoch, exactly."""
    return (moment - EPOCH) // _MICROSECOND


def seconds_to_micros(seconds: float) -> int:
    """Return a duration in whole microseconds."""
    return round(seconds * 1_000_000)


def moment_of(value: int) -> datetime:
    """Return the moment, aware and in UTC."""
    return EPOCH + timedelta(microseconds=value)


def dumped(value: Mapping[str, Any] | None) -> str | None:
    """Return JSON text, or None."""
    return None if value is None else json.dumps(dict(value), separators=(",", ":"))


def values_of(job: Job) -> dict[str, Any]:
    """Return what the caller decides of a job, by its names in the stores; the rest is the store's."""
    return {
        "id": job.id,
        "queue_name": job.queue_name,
        "job_type": job.job_type,
        "payload": dumped(job.payload),
        "priority": job.priority,
        "max_retries": job.max_retries,
        "retry_count": job.retry_count,
        "created_by": job.created_by,
        "metadata": dumped(job.metadata),
        "scheduled_at": None if job.scheduled_at is None else micros(job.scheduled_at),
    }
