"""The port that jobs are read through: beside the job itself, its result and its history."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from portico_celery.exceptions import ValidationError
from portico_celery.ports.job import Job, JobStatus, QueueStats

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1_000
MAX_ERROR_PART_CHARS = 500


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One run of a job. ``ended_at`` is None while it runs; ``traceback`` is cut to a bounded length."""

    number: int
    worker: str
    started_at: datetime
    ended_at: datetime | None = None
    error: str | None = None
    traceback: str | None = None


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """All that the store knows of a job. ``envelope`` is what a plain Celery client's message carried beside it."""

    job: Job
    result_data: dict[str, Any] | None = None
    attempts: tuple[Attempt, ...] = ()
    envelope: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """Which jobs are meant: those that meet all of its conditions. ``job_ids`` names at most 1000.

    ``created_by`` is whose jobs are meant, as the job's own field says it.

    ``error_contains`` is a part of the job's ``error_message``, capitals as they are. No index serves it: each job that
    meets the other conditions is read, until a page is full.

    A job ended at its ``failed_at`` or ``completed_at``: not before ``ended_since``, and before ``ended_until``. Naive
    datetimes are taken as UTC. A job that has not ended meets neither.

    ``cursor`` is the ``next_cursor`` of the page before; ``limit``, from 1 to 1000, is the size of a page. Raises
    ValidationError for a condition that can't be.
    """

    queue_name: str | None = None
    job_type: str | None = None
    status: JobStatus | None = None
    created_by: UUID | None = None
    error_contains: str | None = None
    ended_since: datetime | None = None
    ended_until: datetime | None = None
    job_ids: tuple[UUID, ...] | None = None
    cursor: str | None = None
    limit: int = DEFAULT_PAGE_SIZE

    def __post_init__(self) -> None:
        for name in ("queue_name", "job_type", "error_contains"):
            _check_text(name, getattr(self, name))
        if self.error_contains is not None and not 1 <= len(self.error_contains) <= MAX_ERROR_PART_CHARS:
            raise ValidationError(
                f"error_contains must have from 1 to {MAX_ERROR_PART_CHARS} characters, not {len(self.error_contains)}"
            )
        if self.status is not None:
            object.__setattr__(self, "status", _as_status(self.status))
        if self.created_by is not None:
            object.__setattr__(self, "created_by", _as_id("created_by", self.created_by))
        for name in ("ended_since", "ended_until"):
            object.__setattr__(self, name, _as_utc(name, getattr(self, name)))
        if self.ended_since and self.ended_until and self.ended_since > self.ended_until:
            raise ValidationError(
                f"ended_since ({self.ended_since}) must not be after ended_until ({self.ended_until})"
            )
        if self.job_ids is not None:
            object.__setattr__(self, "job_ids", _as_ids(self.job_ids))
        if type(self.limit) is not int or not 1 <= self.limit <= MAX_PAGE_SIZE:
            raise ValidationError(f"limit must be from 1 to {MAX_PAGE_SIZE}, not {self.limit!r}")


def _check_text(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise ValidationError(f"{name} must be text, not {value!r:.60}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValidationError(f"{name} must be text that UTF-8 can express, not {value!r:.60}") from None
    if "\0" in value:
        raise ValidationError(f"{name} must not contain a NUL character, as {value!r:.60} does")


def _as_status(value: object) -> JobStatus:
    try:
        return JobStatus(value)
    except ValueError:
        known = ", ".join(status.value for status in JobStatus)
        raise ValidationError(f"status must be one of {known}, not {value!r:.60}") from None


def _as_utc(name: str, value: object) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise ValidationError(f"{name} must be a datetime, not {value!r:.60}")
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValidationError(f"{name} must be a datetime that UTC has, too, not {value!r:.60}") from None


def _as_ids(values: object) -> tuple[UUID, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ValidationError(f"job_ids must be a sequence of ids, not {values!r:.60}")
    ids = tuple(dict.fromkeys(_as_id("job_ids", value) for value in values))
    if len(ids) > MAX_PAGE_SIZE:
        raise ValidationError(f"job_ids must name at most {MAX_PAGE_SIZE:,} jobs, not {len(ids):,}")
    return ids


def _as_id(name: str, value: object) -> UUID:
    if isinstance(value, UUID):
        return value
    try:
        return UUID(str(value))
    except ValueError:
        raise ValidationError(f"{name} must name UUIDs, and {value!r:.60} is none") from None


@dataclass(frozen=True, kw_only=True)
class JobPage:
    """Some jobs, the newest first, and where the next page begins (None at the end)."""

    jobs: tuple[Job, ...]
    next_cursor: str | None = None


class JobReader(ABC):
    """Reads jobs, and changes nothing. A job id may be given as a UUID or as its text."""

    @abstractmethod
    async def get_job(self, job_id: UUID | str) -> Job | None:
        """Return the job, or None. Raises ValidationError for an id that is not a UUID."""

    @abstractmethod
    async def get_record(self, job_id: UUID | str) -> JobRecord | None:
        """Return the job with its result and its history of attempts, or None."""

    @abstractmethod
    async def list_jobs(self, job_filter: JobFilter) -> JobPage:
        """Return one page of jobs, the newest first."""

    @abstractmethod
    async def get_queue_stats(self, queue_name: str, *, created_by: UUID | None = None) -> QueueStats:
        """Count the jobs of a queue by state: all of them, or those that one caller has created."""

    @abstractmethod
    async def get_oldest_due_seconds(self) -> float:
        """Return for how many seconds the job that is due longest has waited past its time; 0 where none is due."""
