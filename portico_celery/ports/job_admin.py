"""The port that an operator changes jobs through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from uuid import UUID


class JobAdmin(ABC):
    """Changes jobs from outside. Each method returns True only if this very call made the change."""

    @abstractmethod
    async def cancel_job(self, job_id: UUID | str) -> bool:
        """Cancel a job that has not started, or that waits for a retry: FAILED, "Job cancelled", never run."""

    @abstractmethod
    async def requeue_job(self, job_id: UUID | str) -> bool:
        """Start a FAILED or DEAD_LETTER job afresh, with all its retries."""

    @abstractmethod
    async def discard_job(self, job_id: UUID | str) -> bool:
        """Delete a job that has ended, with its history."""
