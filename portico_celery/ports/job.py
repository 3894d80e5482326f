"""The models that every port speaks in."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID


class JobStatus(str, Enum):
    """Where a job is in its life. Compares equal to its value: ``JobStatus.PENDING == "pending"``."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    RETRYING = "retrying"
    DEAD_LETTER = "dead_letter"


# No slots: callers copy with ``Job(**{**job.__dict__, "status": ...})`` as well as with replace().
@dataclass(frozen=True)
class Job:
    """A background job. ``payload`` and ``metadata`` are JSON; times are aware and in UTC."""

    id: UUID
    queue_name: str
    job_type: str
    payload: dict[str, Any]
    priority: int = 0
    max_retries: int = 3
    retry_count: int = 0
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    status: JobStatus = JobStatus.PENDING
    error_message: str | None = None
    created_by: UUID | None = None
    created_at: datetime | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class JobResult:
    """What a handler returns. ``success=False`` is final, unless ``retry_recommended`` is True in the data."""

    success: bool
    error: Exception | None = None
    result_data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class QueueStats:
    """How many jobs of a queue are in which state. Scheduled and retrying jobs count as pending."""

    queue_name: str
    pending_count: int
    running_count: int
    completed_count: int
    failed_count: int
    dead_letter_count: int
