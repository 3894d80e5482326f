"""A job store beside the reference: whatever is done to both must be answered alike.

The store's clock runs, the reference's stands still. All waits are multiples of a tick, which is far longer than a test
takes, so that each moment the store tells of can be read as the reference's nearest tick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from portico_celery import lifecycle
from portico_celery.ports.job import Job, QueueStats
from portico_celery.ports.job_reader import JobFilter, JobRecord
from portico_celery.ports.job_store import Claim, ClaimedJob, DueWork, Finish, Lease, Postponement
from tests.contracts.stores import StoreUnderTest
from tests.faults.reference_row import BEGINNING
from tests.faults.reference_store import ReferenceStore

T = TypeVar("T")

TICK = 100.0
KNOCK = TICK
LEASE = 3 * TICK


class StorePair:
    """The operations of the port. Each returns the answer that both gave, in the reference's time."""

    def __init__(self, jobs: StoreUnderTest) -> None:
        self.reference = ReferenceStore()
        self._jobs = jobs
        self._store = jobs.store
        self._start = jobs.now()
        self.touched: set[UUID] = set()

    def advance(self, seconds: float) -> None:
        self._jobs.advance(seconds)
        self.reference.now = self.reference.after(seconds)

    def owes_notice(self, job_id: UUID) -> bool:
        row = self.reference.rows.get(job_id)
        return row is not None and row.owes_notice

    def insert(self, jobs: Sequence[Job]) -> list[tuple[Job, bool]]:
        self.touched.update(job.id for job in jobs)
        found = self._store.insert([self._in_real_time(job) for job in jobs], knock_seconds=KNOCK)
        return self._same(found, [self.reference.insert(job, KNOCK) for job in jobs])

    def claim(self, claims: Sequence[Claim]) -> list[ClaimedJob | None]:
        self.touched.update(claim.job_id for claim in claims)
        return self._same(self._store.claim(claims), [self.reference.claim(claim) for claim in claims])

    def finish(self, finishes: Sequence[Finish]) -> list[Job | None]:
        self.touched.update(finish.job_id for finish in finishes)
        return self._same(self._store.finish(finishes), [self.reference.finish(finish) for finish in finishes])

    def extend(self, leases: Sequence[Lease]) -> list[bool]:
        self.touched.update(lease.job_id for lease in leases)
        expected = [self.reference.extend(lease, LEASE) for lease in leases]
        return self._same(self._store.extend(leases, lease_seconds=LEASE), expected)

    def postpone(self, postponements: Sequence[Postponement]) -> list[Job | None]:
        self.touched.update(postponement.job_id for postponement in postponements)
        expected = [self.reference.postpone(postponement) for postponement in postponements]
        return self._same(self._store.postpone(postponements), expected)

    def settle_loss(self, lease: Lease) -> None:
        self.touched.add(lease.job_id)
        self._store.settle_loss(lease)
        self.reference.settle_loss(lease)

    def sweep(self) -> DueWork:
        self.touched.update(self.reference.rows)
        found = self._store.take_due(limit=100, knock_seconds=KNOCK)
        ordered = replace(
            found,
            knocks=tuple(sorted(found.knocks, key=lambda knock: knock.job.id)),
            expired=tuple(sorted(found.expired, key=lambda claimed: claimed.job.id)),
        )
        return self._same(ordered, self.reference.take_due(KNOCK))

    def cancel(self, job_id: UUID, *, running: bool) -> bool:
        self.touched.add(job_id)
        expected = self.reference.cancel(job_id, running=running)
        return self._same(self._store.cancel(job_id, running=running), expected)

    def requeue(self, wanted: JobFilter) -> int:
        meant = self.reference.meant(wanted, lifecycle.REQUEUABLE)
        step = self._store.requeue(wanted, knock_seconds=KNOCK)
        self._look_at_step(wanted, meant, [knock.job.id for knock in step.knocks], step.next_cursor)
        return len(self._same(step.knocks, tuple(self.reference.requeue(one.job.id, KNOCK) for one in step.knocks)))

    def discard(self, wanted: JobFilter) -> int:
        meant = self.reference.meant(wanted, lifecycle.TERMINAL)
        step = self._store.discard(wanted)
        self._look_at_step(wanted, meant, [job.id for job in step.jobs], step.next_cursor)
        return len(self._same(step.jobs, tuple(self.reference.discard(job.id) for job in step.jobs)))

    def _look_at_step(self, wanted: JobFilter, meant: set[UUID], changed: list[UUID], cursor: str | None) -> None:
        """Of those that are meant, the store says which it takes."""
        self.touched.update(meant, changed)
        assert set(changed) <= meant, f"not meant: {set(changed) - meant}"
        assert len(changed) == min(wanted.limit, len(meant)), f"{changed} of {meant}"
        assert cursor is not None or len(changed) == len(meant), f"there are more than {changed}"

    def holder(self, job_id: UUID) -> ClaimedJob | None:
        return self._same(self._store.holder(job_id), self.reference.holder(job_id))

    def get(self, job_id: UUID) -> JobRecord | None:
        return self._same(self._store.get(job_id), self.reference.get(job_id))

    def list_jobs(self) -> list[Job]:
        found = sorted(self._store.list_jobs(JobFilter()).jobs, key=lambda job: job.id)
        return self._same(found, [self.reference.rows[job_id].job for job_id in sorted(self.reference.rows)])

    def stats(self, queue_name: str) -> QueueStats:
        return self._same(self._store.stats(queue_name), self.reference.stats(queue_name))

    def count_knocked(self, queue_name: str) -> int:
        return self._same(self._store.count_knocked(queue_name), self.reference.count_knocked(queue_name))

    def oldest_due_seconds(self) -> float:
        found, expected = self._store.oldest_due_seconds(), self.reference.oldest_due_seconds()
        # Not in ticks: a postponement is shorter than one.
        assert abs(found - expected) < TICK / 4, f"the store's answer:  {found}\nthe lifecycle's own: {expected}"
        return expected

    def _same(self, found: T, expected: T) -> T:
        answer = self._in_ticks(found)
        assert answer == expected, f"the store's answer:  {answer}\nthe lifecycle's own: {expected}"
        return expected

    def _in_real_time(self, job: Job) -> Job:
        if job.scheduled_at is None:
            return job
        return replace(job, scheduled_at=self._start + (job.scheduled_at - BEGINNING))

    def _in_ticks(self, value: Any) -> Any:
        match value:
            case datetime():
                return BEGINNING + timedelta(seconds=round((value - self._start).total_seconds() / TICK) * TICK)
            case float():
                return round(value / TICK) * TICK
            case list() | tuple():
                return type(value)(self._in_ticks(item) for item in value)
            case _ if is_dataclass(value) and not isinstance(value, type):
                changed = {part.name: self._in_ticks(getattr(value, part.name)) for part in fields(value)}
                return replace(value, **changed)
        return value
