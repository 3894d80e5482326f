"""Our port of what a worker needs beyond the queue's own: jobs together with the attempt that holds them.

A queue that implements it beside JobQueueAdapter lets its workers store a job's result, hear of lost workers, be told
to stop, and give back a job without spending a retry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from portico_celery.ports.job_store import ClaimedJob, Transition


@dataclass(frozen=True, kw_only=True)
class KnownTypes:
    """The job types that a worker has handlers for.

    A job of another type is put back for a worker that has one, which is no attempt and spends no retry, and is a
    dead letter when none has had one for ``patience`` seconds.
    """

    includes: Callable[[str], bool]
    patience: float


class JobClaims(ABC):
    """Hands out jobs as claims, and takes back how each attempt ended."""

    @abstractmethod
    async def take(self, queue_name: str, timeout: float = 30, *, known: KnownTypes | None = None) -> ClaimedJob | None:
        """Take a job as ``dequeue`` does; beside those, dead letters whose handler has to hear of a lost worker.

        With ``known``, only of these types.
        """

    @abstractmethod
    def held(
        self, claimed: ClaimedJob, interrupt: Callable[[], None], *, can_go_on: Callable[[], bool] = lambda: True
    ) -> AbstractContextManager[None]:
        """Keep the job's lease alive inside the block, as long as its run ``can_go_on``.

        ``interrupt`` is called when the attempt no longer holds the job: it was cancelled, or its lease was lost. Both
        are called from any thread.
        """

    def can_give_back(self, claimed: ClaimedJob, *, started: bool) -> bool:
        """Whether the job may go back to its queue before it has come to an end, and lose nothing by it."""
        return claimed.job.max_retries > 0 or not started

    @abstractmethod
    async def finish(self, claimed: ClaimedJob, transition: Transition) -> bool:
        """End the attempt as decided. False where it no longer held the job; repeating what took effect is True."""

    @abstractmethod
    async def settle_loss(self, claimed: ClaimedJob) -> None:
        """Note that the handler of a dead letter has heard that its worker was lost."""
