"""What must hold of a job store after each step of the state machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from uuid import UUID

from hypothesis.stateful import RuleBasedStateMachine, invariant

from portico_celery import lifecycle
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_store import Finish
from tests.contracts.stores import StoreUnderTest
from tests.faults.store_choices import QUEUES
from tests.faults.store_pair import StorePair

OpenStore = Callable[[], AbstractContextManager[StoreUnderTest]]


class WatchedStore(RuleBasedStateMachine):
    """A new store beside its reference. ``seen`` counts what has happened, so that nobody has to believe it."""

    def __init__(self, open_store: OpenStore, seen: Counter[str]) -> None:
        super().__init__()
        self._open = ExitStack()
        self.pair = StorePair(self._open.enter_context(open_store()))
        self.seen = seen
        self.seen["runs"] += 1
        self._checks = 0
        self._attempts: Counter[UUID] = Counter()
        self._ended_badly: Counter[UUID] = Counter()
        self._ended: set[tuple[UUID, int]] = set()

    def teardown(self) -> None:
        self._open.close()

    def end(self, finishes: list[Finish], name: str) -> None:
        """End attempts, and remember for which of them the history must have grown."""
        for finish, job in zip(finishes, self.pair.finish(finishes), strict=True):
            holder = self.pair.reference.holder(finish.job_id)
            overtaken = holder is not None and holder.attempt != finish.attempt
            if job is None:
                self.seen[f"{name}_overtaken" if overtaken else f"{name}_refused"] += 1
            elif (finish.job_id, finish.attempt) in self._ended:
                self.seen[f"{name}_again"] += 1
            else:
                self.seen[name] += 1
                self._note_end(finish.job_id, finish.attempt, badly=job.status is not JobStatus.COMPLETED)

    def cancel_one(self, job_id: UUID, *, running: bool) -> None:
        """Cancel a job, and remember whether its history must have grown."""
        held = self.pair.holder(job_id)
        if not self.pair.cancel(job_id, running=running):
            self.seen["cancels_refused"] += 1
        elif held is None:
            self.seen["cancelled"] += 1
        else:
            self.seen["cancelled_running"] += 1
            self._note_end(job_id, held.attempt, badly=True)

    def _note_end(self, job_id: UUID, attempt: int, *, badly: bool) -> None:
        self._ended.add((job_id, attempt))
        self._ended_badly[job_id] += badly

    @invariant()
    def the_store_is_what_the_lifecycle_made_of_it(self) -> None:
        self.seen["checks"] += 1
        self._checks += 1
        jobs = {job.id: job for job in self.pair.list_jobs()}
        self._look_at_counts(list(jobs.values()), QUEUES[self._checks % len(QUEUES)])
        while self.pair.touched:
            job_id = self.pair.touched.pop()
            self._look_at(job_id, jobs.get(job_id))

    def _look_at(self, job_id: UUID, job: Job | None) -> None:
        record, holder = self.pair.get(job_id), self.pair.holder(job_id)
        if record is None:
            # Under the same id there may be another job.
            del self._attempts[job_id], self._ended_badly[job_id]
            self._ended = {ended for ended in self._ended if ended[0] != job_id}
            return
        assert record.job == job, f"read alone: {record.job}\nin the list: {job}"
        shown = record.job.status in (JobStatus.RUNNING, JobStatus.COMPLETED)
        assert len(record.attempts) == self._ended_badly[job_id] + shown, f"in the history: {record.attempts}"
        assert (holder is not None) == (record.job.status is JobStatus.RUNNING), f"{holder} holds {record.job}"
        attempt = record.attempts[-1].number if record.attempts else 0
        assert attempt >= self._attempts[job_id], f"attempt {attempt} after attempt {self._attempts[job_id]}"
        self._attempts[job_id] = attempt

    def _look_at_counts(self, jobs: list[Job], queue_name: str) -> None:
        counts = Counter(job.status for job in jobs if job.queue_name == queue_name)
        assert self.pair.stats(queue_name) == lifecycle.queue_stats(queue_name, counts), f"listed: {counts}"
        self.pair.oldest_due_seconds()
        knocked = self.pair.count_knocked(queue_name)
        assert knocked <= counts[JobStatus.PENDING] + counts[JobStatus.RETRYING], f"{knocked} knocked for of {counts}"
