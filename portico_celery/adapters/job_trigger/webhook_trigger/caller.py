"""Who asks, and what it may ask for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from uuid import UUID, uuid5

from portico_celery.ports.job import Job

#: Under this name a job's metadata says who created it over the webhook.
METADATA = "webhook"
_NAMESPACE = UUID("3c1f6d0a-52d8-5a0b-9d6e-0b6f3f3b6f0c")


@dataclass(frozen=True, kw_only=True)
class Caller:
    """``name`` is None where nobody has to say who it is. None for types and queues: all that the webhook allows.

    ``quota`` are the headers that tell it how many requests are left to it.
    """

    name: str | None = None
    job_types: Collection[str] | None = None
    queues: Collection[str] | None = None
    quota: Mapping[str, str] = field(default_factory=dict)

    def may_create(self, job_type: str) -> bool:
        """Whether its key opens this job type."""
        return self.job_types is None or job_type in self.job_types

    def may_use(self, queue_name: str) -> bool:
        """Whether its key opens this queue."""
        return self.queues is None or queue_name in self.queues

    @property
    def only_queue(self) -> str | None:
        """The queue of its jobs that name none: where its key is for a single one, that one."""
        return next(iter(self.queues)) if self.queues is not None and len(self.queues) == 1 else None

    @property
    def id(self) -> UUID | None:
        """What its jobs have as ``created_by``, which the stores find them by; None where nobody says who it is."""
        return None if self.name is None else _id_of(self.name)

    def owns(self, job: Job) -> bool:
        """Whether it may see the job: its own, or any where callers are not told apart."""
        return self.name is None or job.created_by == self.id


@lru_cache(maxsize=1_000)
def _id_of(name: str) -> UUID:
    return uuid5(_NAMESPACE, name)
