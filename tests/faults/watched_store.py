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

    def teardown(self) -> None:
        self._open.close()

    def end(self, finishes: list[Finish], name: str) -> None:
        """End attempts, and remember for which of them the history must have grown."""
        for finish, job in zip(finishes, self.pair.finish(finishes), strict=True):
            holder = self.pair.reference.holder(finish.job_id)
            overtaken = holder is not None and holder.attempt != finish.attempt
            self.seen[name if job else f"{name}_overtaken" if overtaken else f"{name}_refused"] += 1
            self._ended_badly[finish.job_id] += job is not None and job.status is not JobStatus.COMPLETED

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
        assert self.pair.count_pending(queue_name) == counts[JobStatus.PENDING], f"listed: {counts}"
