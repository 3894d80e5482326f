"""The port that an operator changes jobs through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from uuid import UUID

from portico_celery.ports.job_reader import JobFilter


class JobAdmin(ABC):
    """Changes jobs from outside. Each method returns True only if this very call made the change.

    Those that change many jobs return how many this call has changed. They take the filter's conditions alone, without
    its cursor and limit, change only what ended before the call, and go on in small steps: at most ``limit`` jobs in
    all, at most ``per_second`` a second. Cancelled, they end with the step that is under way; what ends them early
    carries a note of how many were done, and so does the log. Raise ValidationError for bounds that can't be.
    """

    @abstractmethod
    async def cancel_job(self, job_id: UUID | str, *, running: bool = False) -> bool:
        """Cancel a job that has not started, or that waits for a retry: FAILED, "Job cancelled", never run.

        With ``running`` a job that runs is cancelled as well: its worker learns of it within a third of its lease, and
        what the handler then returns is not recorded.
        """

    @abstractmethod
    async def requeue_job(self, job_id: UUID | str) -> bool:
        """Start a FAILED or DEAD_LETTER job afresh, with all its retries."""

    @abstractmethod
    async def requeue_jobs(
        self, job_filter: JobFilter, limit: int | None = None, per_second: float | None = None
    ) -> int:
        """Start jobs afresh, with all their retries, the newest first.

        Only FAILED and DEAD_LETTER jobs; only DEAD_LETTER where the filter names neither a status nor ids.
        """

    @abstractmethod
    async def discard_job(self, job_id: UUID | str) -> bool:
        """Delete a job that has ended, with its history."""

    @abstractmethod
    async def discard_jobs(
        self, job_filter: JobFilter, limit: int | None = None, per_second: float | None = None
    ) -> int:
        """Delete jobs that have ended, with their history.

        Only DEAD_LETTER jobs where the filter names neither a status nor ids.
        """
