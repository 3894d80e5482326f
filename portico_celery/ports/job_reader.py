"""The port that jobs are read through: beside the job itself, its result and its history."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from portico_celery.ports.job import Job, JobStatus, QueueStats


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
    """All that the store knows of a job."""

    job: Job
    result_data: dict[str, Any] | None = None
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """Which jobs to list. ``cursor`` is the ``next_cursor`` of the page before; ``limit`` is at most 1000."""

    queue_name: str | None = None
    job_type: str | None = None
    status: JobStatus | None = None
    cursor: str | None = None
    limit: int = 100


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
    async def get_queue_stats(self, queue_name: str) -> QueueStats:
        """Count the jobs of a queue by state."""
