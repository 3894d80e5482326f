"""Whatever may befall the jobs in a store, in any order, as a state machine for Hypothesis.

A knock is no more than its job's id: it is delivered at any time, any number of times or never. What workers and
reapers have read is remembered, so that they may come with it when it has long been overtaken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

from hypothesis.stateful import initialize, rule

from portico_celery.lifecycle import REQUEUABLE, TERMINAL, WAITING, Lost
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import JobFilter
from portico_celery.ports.job_store import Claim, ClaimedJob, Finish
from tests.faults.reference_row import Row
from tests.faults.store_choices import (
    IDS,
    JOB_TYPE,
    OUTCOMES,
    UNTIL_DUE,
    NewJob,
    claim_of,
    finish_of,
    lease_of,
    moves,
    new_jobs,
    postponement_of,
)
from tests.faults.store_pair import LEASE, TICK
from tests.faults.watched_store import OpenStore, WatchedStore

T = TypeVar("T")


class StoreMachine(WatchedStore):
    """Producers, workers, reapers, operators and time: each move looks first for a job that it can change."""

    def __init__(self, open_store: OpenStore, seen: Counter[str]) -> None:
        super().__init__(open_store, seen)
        # The newest first.
        self.asked: list[Claim] = []
        self.claimed: list[ClaimedJob] = []
        self.ends: list[Finish] = []
        self.expired: list[ClaimedJob] = []

    @initialize(new=new_jobs)
    def begin_with_jobs_that_run(self, new: list[NewJob]) -> None:
        self.create(new)
        self._claim([claim_of(one.job_id, "worker-0") for one in new])

    @rule(move=moves)
    def happens(self, move: tuple[str, dict[str, Any]]) -> None:
        name, arguments = move
        getattr(self, name)(**arguments)

    def create(self, new: list[NewJob]) -> None:
        for _job, created in self.pair.insert([self._job(one) for one in new]):
            self.seen["created" if created else "created_again"] += 1

    def _job(self, new: NewJob) -> Job:
        return Job(
            id=new.job_id,
            queue_name=new.queue_name,
            job_type=JOB_TYPE,
            payload={"start": new.start},
            max_retries=new.max_retries,
            scheduled_at=None if new.start is None else self.pair.reference.after(new.start * TICK),
        )

    def deliver(self, places: list[int], doubled: bool) -> None:
        ids = chosen(self._ids(lambda row: row.job.status in WAITING or row.owes_notice), places)
        self._claim([claim_of(job_id, "worker-1") for job_id in ids])
        if doubled:
            self._claim([claim_of(ids[0], "worker-2")])

    def adopt(self, new: NewJob) -> None:
        job = replace(self._job(new), scheduled_at=None)
        self._claim([replace(claim_of(job.id, "worker-3"), adopt=job, envelope={"task_id": "7"})])

    def ask_again(self, places: list[int]) -> None:
        self._claim(chosen(sorted(self.asked, key=lambda claim: self._token(claim.job_id) != claim.token), places))

    def _token(self, job_id: UUID) -> str | None:
        row = self.pair.reference.rows.get(job_id)
        return row.token if row is not None and row.runs else None

    def _claim(self, wanted: list[Claim]) -> None:
        for claim, claimed in zip(wanted, self.pair.claim(wanted), strict=True):
            if claimed is None:
                self.seen["claims_refused"] += 1
            elif claimed in self.claimed and claimed.job.status is JobStatus.RUNNING:
                self.seen["claims_repeated"] += 1
            else:
                self.seen["notices" if claimed.job.status is JobStatus.DEAD_LETTER else "claimed"] += 1
                self.claimed.insert(0, claimed)
                self.asked.insert(0, claim)

    def finish(self, places: list[int], outcome: str, delay: int, twice: bool) -> None:
        held = chosen(self._held(lambda row: row.runs), places)
        ends = [finish_of(one, OUTCOMES[outcome], delay) for one in held]
        self.end(ends * (1 + twice), "finished")
        self.ends[:0] = ends

    def finish_again(self, places: list[int]) -> None:
        self.end(chosen(self.ends, places), "finished")

    def renew_leases(self, places: list[int]) -> None:
        held = chosen(self._held(lambda row: row.runs), places)
        for kept in self.pair.extend([lease_of(one) for one in held]):
            self.seen["renewed" if kept else "renewals_refused"] += 1

    def meet_without_a_handler(self, places: list[int], patience: int, forged: bool) -> None:
        rows = self.pair.reference.rows
        ids = chosen(self._ids(lambda row: row.job.status in WAITING or row.owes_notice), places)
        ended = {job_id for job_id in ids if job_id in rows and rows[job_id].job.status in TERMINAL}
        owing = {job_id for job_id in ids if self.pair.owes_notice(job_id)}
        for job in self.pair.postpone([postponement_of(job_id, patience, forged=forged) for job_id in ids]):
            if job is None:
                self.seen["postponements_refused"] += 1
            elif job.id in ended:
                self.seen["notices_put_off"] += 1
            else:
                self.seen["given_up" if job.status is JobStatus.DEAD_LETTER else "postponed"] += 1
        self.seen["notices_given_up"] += sum(not self.pair.owes_notice(job_id) for job_id in owing)
        # So that no time to come is anything but a whole tick away, nor looked for twice in a minute.
        self.pair.advance(TICK)

    def settle_a_notice(self, place: int) -> None:
        for held in chosen(self._held(lambda row: row.owes_notice), [place]):
            owed = self.pair.owes_notice(held.job.id)
            self.pair.settle_loss(lease_of(held))
            self.seen["settled"] += owed and not self.pair.owes_notice(held.job.id)
        # It may have ended long ago, and a store need not look for such jobs twice in a minute.
        self.pair.advance(TICK)

    def let_time_pass_and_sweep(self, pause: int) -> None:
        wait = self.pair.reference.next_due_in()
        if pause != UNTIL_DUE or wait is None:
            self.pair.advance(max(pause, 0) * TICK)
        else:
            self.pair.advance(wait - TICK)
            self._sweep()
            self.pair.advance(TICK)
        self._sweep()

    def _sweep(self) -> None:
        stored = len(self.pair.reference.rows)
        found = self.pair.sweep()
        self.expired[:0] = found.expired
        self.seen["swept"] += len(found.knocks)
        self.seen["deleted"] += stored - len(self.pair.reference.rows)

    def reap(self, places: list[int], delay: int) -> None:
        self._reap(chosen(self.expired, places), delay)

    def lose_the_workers(self, delay: int) -> None:
        self.pair.advance(LEASE)
        self._sweep()
        self._reap([claimed for claimed in map(self.pair.holder, IDS) if claimed is not None], delay)

    def _reap(self, found: list[ClaimedJob], delay: int) -> None:
        losses = [(one, Lost(worker=one.worker, attempt=one.attempt)) for one in found]
        self.end([finish_of(one, lost, delay, expired_only=True) for one, lost in losses], "reaped")

    def cancel(self, place: int, running: bool) -> None:
        [job_id] = chosen(self._ids(lambda row: row.runs if running else row.job.status in WAITING), [place])
        self.cancel_one(job_id, running=running)

    def requeue(self, place: int) -> None:
        [job_id] = chosen(self._ids(lambda row: row.job.status in REQUEUABLE), [place])
        self.seen["requeued"] += self.pair.requeue(JobFilter(job_ids=(job_id,)))

    def requeue_many(self, wanted: JobFilter) -> None:
        self.seen["requeued_by_filter"] += self.pair.requeue(wanted)

    def discard(self, place: int) -> None:
        [job_id] = chosen(self._ids(lambda row: row.job.status in TERMINAL), [place])
        self.seen["discarded"] += self.pair.discard(JobFilter(job_ids=(job_id,)))

    def discard_many(self, wanted: JobFilter) -> None:
        self.seen["discarded_by_filter"] += self.pair.discard(wanted)

    def _ids(self, fits: Callable[[Row], bool]) -> list[UUID]:
        return [job_id for job_id, row in self.pair.reference.rows.items() if fits(row)] + IDS

    def _held(self, fits: Callable[[Row], bool]) -> list[ClaimedJob]:
        """All that were ever claimed: first who holds a job that fits, then who held it before, then the others."""

        def distance(one: ClaimedJob) -> int:
            row = self.pair.reference.rows.get(one.job.id)
            return 2 if row is None or not fits(row) else int(row.attempt != one.attempt)

        return sorted(self.claimed, key=distance)


def chosen(candidates: Sequence[T], places: Iterable[int]) -> list[T]:
    """The candidates that stand in these places, as far as there are any; one may be taken twice."""
    return [candidates[place % len(candidates)] for place in places if candidates]
