"""The port that triggers and application code create jobs through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from portico_celery.ports.job import Job


class JobCreator(ABC):
    """Creates jobs, and can do nothing else with them."""

    #: False where the methods await nothing that is bound to an event loop, so that synchronous callers
    #: (a Flask view) may drive them without one. See portico_celery.event_loop.wait.
    needs_event_loop: bool = True

    @abstractmethod
    async def create_job(
        self,
        job_type: str,
        payload: dict[str, Any],
        queue_name: str = "default",
        priority: int = 0,
        **kwargs: Any,
    ) -> Job:
        """Create a job; when this returns, the job is durable.

        Further keywords: ``scheduled_at`` (datetime, naive is taken as UTC), ``max_retries``, ``created_by``,
        ``metadata`` and ``job_id`` (create if absent: where a job of this id exists, it is returned unchanged).

        Raises ValidationError (a ValueError) for a payload that is not JSON, for a job type with no handler
        where the creator knows its handlers, and for any other argument it can't accept.
        """
