"""Whatever may befall the jobs in a store, in any order, as a state machine for Hypothesis.

Hypothesis leaves out some of the rules in each example, so that few rules that do much find more than many small ones.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, consumes, initialize, multiple, precondition, rule

from portico_celery.lifecycle import REQUEUABLE, TERMINAL, WAITING, Lost
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_store import Claim, ClaimedJob
from tests.faults.store_choices import (
    OUTCOMES,
    UNTIL_DUE,
    NewJob,
    claim_of,
    delays,
    finish_of,
    job_ids,
    lease_of,
    leases,
    new_jobs,
    outcomes,
    pauses,
    several,
)
from tests.faults.store_pair import TICK
from tests.faults.watched_store import WatchedStore

knocks: Bundle[UUID] = Bundle("knocks")
claims: Bundle[ClaimedJob] = Bundle("claims")
expired: Bundle[ClaimedJob] = Bundle("expired")


class StoreMachine(WatchedStore):
    """Producers, workers, reapers, operators and time, each doing what it likes."""

    @initialize(target=knocks, new=several(new_jobs))
    def create_the_first(self, new: list[NewJob]) -> MultipleResults[UUID]:
        return self._create(new)

    @rule(target=knocks, new=several(new_jobs))
    def create(self, new: list[NewJob]) -> MultipleResults[UUID]:
        return self._create(new)

    def _create(self, new: list[NewJob]) -> MultipleResults[UUID]:
        answers = self.pair.insert([self._job(one) for one in new])
        for _job, created in answers:
            self.seen["created" if created else "created_again"] += 1
        return multiple(*(job.id for job, _created in answers))

    def _job(self, new: NewJob) -> Job:
        return Job(
            id=new.job_id,
            queue_name=new.queue_name,
            job_type="email.send",
            payload={"start": new.start},
            max_retries=new.max_retries,
            scheduled_at=None if new.start is None else self.pair.reference.after(new.start * TICK),
        )

    @rule(knock=consumes(knocks))
    def lose_a_knock(self, knock: UUID) -> None:  # noqa: ARG002  # it is lost
        self.seen["knocks_lost"] += 1

    @rule(target=claims, delivered=several(consumes(knocks)), doubled=st.booleans())
    def deliver(self, delivered: list[UUID], doubled: bool) -> MultipleResults[ClaimedJob]:
        taken = self._claim([claim_of(job_id, "worker-1") for job_id in delivered])
        return multiple(*taken, *(self._claim([claim_of(delivered[0], "worker-2")]) if doubled else ()))

    @rule(target=claims, new=new_jobs)
    def adopt(self, new: NewJob) -> MultipleResults[ClaimedJob]:
        job = replace(self._job(new), scheduled_at=None)
        claim = replace(claim_of(job.id, "worker-3"), adopt=job, envelope={"task_id": "a plain client's"})
        return multiple(*self._claim([claim]))

    def _claim(self, wanted: list[Claim]) -> list[ClaimedJob]:
        # Whether two who ask for one notice in one call both get it is left to the store.
        once = {claim.job_id: claim for claim in wanted if self.pair.owes_notice(claim.job_id)}
        wanted = [claim for claim in wanted if claim.job_id not in once] + list(once.values())
        taken = [claimed for claimed in self.pair.claim(wanted) if claimed is not None]
        for claimed in taken:
            self.seen["notices" if claimed.job.status is JobStatus.DEAD_LETTER else "claimed"] += 1
        self.seen["claims_refused"] += len(wanted) - len(taken)
        return taken

    @rule(held=several(consumes(claims)), outcome=outcomes, delay=delays, twice=st.booleans())
    def finish(self, held: list[ClaimedJob], outcome: str, delay: int, twice: bool) -> None:
        finishes = [finish_of(one, OUTCOMES[outcome], delay) for one in held]
        self.end(finishes * 2 if twice else finishes, "finished")

    @rule(held=several(claims))
    def renew_leases(self, held: list[ClaimedJob]) -> None:
        for kept in self.pair.extend([lease_of(one) for one in held]):
            self.seen["renewed" if kept else "renewals_refused"] += 1

    @rule(held=several(claims))
    def settle_notices(self, held: list[ClaimedJob]) -> None:
        for one in held:
            owed = self.pair.owes_notice(one.job.id)
            self.pair.settle_loss(lease_of(one))
            self.seen["settled"] += owed and not self.pair.owes_notice(one.job.id)

    @rule(target=knocks, pause=pauses)
    def let_time_pass_and_sweep(self, pause: int) -> MultipleResults[UUID]:
        wait = self.pair.reference.next_due_in()
        if pause != UNTIL_DUE or wait is None:
            self.pair.advance(max(pause, 0) * TICK)
            return multiple(*self._knocked())
        self.pair.advance(wait - TICK)
        before = self._knocked()
        self.pair.advance(TICK)
        return multiple(*before, *self._knocked())

    def _knocked(self) -> list[UUID]:
        stored = len(self.pair.reference.rows)
        found = self.pair.sweep().knocks
        self.seen["deleted"] += stored - len(self.pair.reference.rows)
        self.seen["swept"] += len(found)
        return [knock.job.id for knock in found]

    @rule(target=expired, pause=leases)
    def let_time_pass_and_find_lost_workers(self, pause: int) -> MultipleResults[ClaimedJob]:
        self.pair.advance(pause * TICK)
        return multiple(*self.pair.sweep().expired)

    @rule(found=several(consumes(expired)), delay=delays)
    def reap(self, found: list[ClaimedJob], delay: int) -> None:
        losses = [(one, Lost(worker=one.worker, attempt=one.attempt)) for one in found]
        self.end([finish_of(one, lost, delay, expired_only=True) for one, lost in losses], "reaped")

    @rule(job_id=job_ids)
    @precondition(lambda self: self.any_is(WAITING))
    def cancel(self, job_id: UUID) -> None:
        self.seen["cancelled"] += self.pair.cancel(job_id)

    @rule(target=knocks, job_id=job_ids)
    @precondition(lambda self: self.any_is(REQUEUABLE))
    def requeue(self, job_id: UUID) -> MultipleResults[UUID]:
        requeued = self.pair.requeue(job_id) is not None
        self.seen["requeued"] += requeued
        return multiple(job_id) if requeued else multiple()

    @rule(job_id=job_ids)
    @precondition(lambda self: self.any_is(TERMINAL))
    def discard(self, job_id: UUID) -> None:
        self.seen["discarded"] += self.pair.discard(job_id)

    def any_is(self, states: Collection[JobStatus]) -> bool:
        return any(row.job.status in states for row in self.pair.reference.rows.values())
