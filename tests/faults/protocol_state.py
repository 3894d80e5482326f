"""One job's row as the protocol's model sees it, and what ``portico_celery.lifecycle`` decides about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple
from uuid import UUID

from portico_celery import lifecycle
from portico_celery.lifecycle import Failed, Lost, Outcome, Succeeded
from portico_celery.ports.job import Job, JobStatus

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_LATER = _NOW + timedelta(hours=1)

HANDLED: dict[str, Outcome] = {
    "the handler succeeds": Succeeded(result_data={}),
    "the handler fails": Failed(),
    "the handler fails for good": Failed(retryable=False),
}
LOST = "the worker is lost"
_OUTCOMES: dict[str, Outcome] = {**HANDLED, LOST: Lost(worker="worker", attempt=1)}


class Row(NamedTuple):
    """``ready``: its time or its backoff has passed. ``leased``: its lease is alive."""

    status: JobStatus
    attempt: int = 0
    retry_count: int = 0
    ready: bool = True
    leased: bool = False
    worker_lost: bool = False

    @property
    def may_start(self) -> bool:
        return _may_start(self.status, self.ready)

    @property
    def owes_notice(self) -> bool:
        return lifecycle.owes_loss_notice(_job(self.status), self.worker_lost)

    @property
    def terminal(self) -> bool:
        return self.status in lifecycle.TERMINAL

    def claimed(self) -> Row:
        return self._replace(
            status=lifecycle.started(_job(self.status), _NOW).status, attempt=self.attempt + 1, leased=True
        )

    def ended(self, outcome: str, retry_count: int, max_retries: int) -> Row:
        """The attempt ends as the lifecycle decides on what its holder knows of the job."""
        status, retry_count, worker_lost = _ended(outcome, retry_count, max_retries)
        ready = status is not JobStatus.RETRYING
        return self._replace(status=status, retry_count=retry_count, ready=ready, leased=False, worker_lost=worker_lost)

    def swept(self) -> Row:
        return self._replace(status=lifecycle.due(_job(self.status)).status)

    def cancelled(self) -> Row | None:
        job = lifecycle.cancelled(_job(self.status), _NOW)
        return None if job is None else self._replace(status=job.status, worker_lost=False)

    def requeued(self) -> Row | None:
        job = lifecycle.requeued(_job(self.status, self.retry_count))
        return None if job is None else Row(status=job.status, retry_count=job.retry_count, attempt=self.attempt)


@cache
def _job(status: JobStatus, retry_count: int = 0, max_retries: int = 0) -> Job:
    return Job(
        id=UUID(int=1),
        queue_name="default",
        job_type="task",
        payload={},
        status=status,
        retry_count=retry_count,
        max_retries=max_retries,
    )


@cache
def _may_start(status: JobStatus, ready: bool) -> bool:
    return lifecycle.may_start(_job(status), _NOW if ready else _LATER, _NOW)


@cache
def _ended(outcome: str, retry_count: int, max_retries: int) -> tuple[JobStatus, int, bool]:
    job = _job(JobStatus.RUNNING, retry_count, max_retries)
    transition = lifecycle.decide(job, _OUTCOMES[outcome])
    job = lifecycle.finished(job, transition, _NOW)
    return job.status, job.retry_count, transition.worker_lost


class Hold(NamedTuple):
    """What a worker or a reaper has read of the row and now believes, and what it is doing."""

    attempt: int
    retry_count: int
    doing: str = ""

    def holds(self, row: Row) -> bool:
        return row.status is JobStatus.RUNNING and row.attempt == self.attempt


class State(NamedTuple):
    """The row, what is under way, and a ledger of what has happened in this life of the job."""

    row: Row
    unpublished: bool = True  # its producer has not knocked yet
    messages: int = 0
    workers: tuple[Hold, ...] = ()
    reapers: tuple[Hold, ...] = ()
    requeues: int = 0
    starts: int = 0
    ends: int = 0
    cancelled: bool = False
    untold: int = 0  # the last attempt that was lost, until its handler hears of that

    @property
    def at_rest(self) -> bool:
        return self.row.terminal and not self.row.owes_notice

    def with_worker(self, worker: Hold) -> State:
        return self._replace(workers=_with(self.workers, worker))

    def without_worker(self, worker: Hold) -> State:
        return self._replace(workers=_without(self.workers, worker))

    def with_reaper(self, reaper: Hold) -> State:
        return self._replace(reapers=_with(self.reapers, reaper))

    def without_reaper(self, reaper: Hold) -> State:
        return self._replace(reapers=_without(self.reapers, reaper))

    def with_end(self, row: Row) -> State:
        """An attempt, or the job itself, has ended."""
        return self._replace(row=row, ends=self.ends + row.terminal)

    def with_new_life(self, row: Row) -> State:
        return self._replace(
            row=row, unpublished=True, requeues=self.requeues + 1, starts=0, ends=0, cancelled=False, untold=0
        )


# In order, as those that do the same are alike: it spares half of the states and more.
def _with(holds: tuple[Hold, ...], hold: Hold) -> tuple[Hold, ...]:
    return tuple(sorted((*holds, hold)))


def _without(holds: tuple[Hold, ...], hold: Hold) -> tuple[Hold, ...]:
    position = holds.index(hold)
    return holds[:position] + holds[position + 1 :]
