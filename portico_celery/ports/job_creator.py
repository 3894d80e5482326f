"""The port that triggers and application code create jobs through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable
from uuid import UUID

from portico_celery.exceptions import ValidationError
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

    def check_job(self, **arguments: Any) -> None:  # noqa: B027  # to be overridden by creators that know more
        """Raise ValidationError where ``create_job`` would for these arguments, as far as the creator can tell now."""


class OnceJobCreator(JobCreator):
    """A JobCreator that also tells whether it has created the job, or found it there."""

    @abstractmethod
    async def create_once(
        self,
        job_type: str,
        payload: dict[str, Any],
        queue_name: str = "default",
        priority: int = 0,
        *,
        job_id: UUID | str,
        **kwargs: Any,
    ) -> tuple[Job, bool]:
        """Create the job of this id if there is none: the stored job, and whether this call created it."""


@runtime_checkable
class BatchJobCreator(Protocol):
    """A JobCreator that also creates many jobs in one step, and says of each what became of it."""

    async def create_each(self, jobs: Sequence[Mapping[str, Any]]) -> list[Job | ValidationError]:
        """Create what can be created, in one store round trip: for each item the job, or what is wrong with it.

        Each item holds the keyword arguments of one ``create_job`` call.
        """
