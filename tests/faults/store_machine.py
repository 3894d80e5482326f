"""Whatever may befall the jobs in a store, in any order, as a state machine for Hypothesis.

A knock is no more than its job's id: it is delivered at any time, any number of times or never. Claims and what a reaper
has found are remembered for ever, so that most of those who use them come too late.
"""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, initialize, multiple, rule

from portico_celery.lifecycle import Lost
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

claims: Bundle[ClaimedJob] = Bundle("claims")
expired: Bundle[ClaimedJob] = Bundle("expired")


class StoreMachine(WatchedStore):
    """Producers, workers, reapers, operators and time, each doing what it likes.

    Hypothesis leaves out some of the rules in each example: few rules that do much find more than many small ones.
    """

    @initialize(target=claims, new=several(new_jobs))
    def begin_with_jobs_that_run(self, new: list[NewJob]) -> MultipleResults[ClaimedJob]:
        self._create(new)
        return multiple(*self._claim([claim_of(one.job_id, "worker-0") for one in new]))

    @rule(new=several(new_jobs))
    def create(self, new: list[NewJob]) -> None:
        self._create(new)

    def _create(self, new: list[NewJob]) -> None:
        for _job, created in self.pair.insert([self._job(one) for one in new]):
            self.seen["created" if created else "created_again"] += 1

    def _job(self, new: NewJob) -> Job:
        return Job(
            id=new.job_id,
            queue_name=new.queue_name,
            job_type="email.send",
            payload={"start": new.start},
            max_retries=new.max_retries,
            scheduled_at=None if new.start is None else self.pair.reference.after(new.start * TICK),
        )

    @rule(target=claims, knocks=several(job_ids), doubled=st.booleans())
    def deliver(self, knocks: list[UUID], doubled: bool) -> MultipleResults[ClaimedJob]:
        taken = self._claim([claim_of(job_id, "worker-1") for job_id in knocks])
        return multiple(*taken, *(self._claim([claim_of(knocks[0], "worker-2")]) if doubled else ()))

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

    @rule(held=several(claims), outcome=outcomes, delay=delays, twice=st.booleans())
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

    @rule(pause=pauses)
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
        self.seen["swept"] += len(self.pair.sweep().knocks)
        self.seen["deleted"] += stored - len(self.pair.reference.rows)

    @rule(target=expired, pause=leases)
    def let_time_pass_and_find_lost_workers(self, pause: int) -> MultipleResults[ClaimedJob]:
        self.pair.advance(pause * TICK)
        return multiple(*self.pair.sweep().expired)

    @rule(found=several(expired), delay=delays)
    def reap(self, found: list[ClaimedJob], delay: int) -> None:
        losses = [(one, Lost(worker=one.worker, attempt=one.attempt)) for one in found]
        self.end([finish_of(one, lost, delay, expired_only=True) for one, lost in losses], "reaped")

    @rule(job_id=job_ids)
    def cancel(self, job_id: UUID) -> None:
        self.seen["cancelled"] += self.pair.cancel(job_id)

    @rule(job_id=job_ids)
    def requeue(self, job_id: UUID) -> None:
        self.seen["requeued"] += self.pair.requeue(job_id) is not None

    @rule(job_id=job_ids)
    def discard(self, job_id: UUID) -> None:
        self.seen["discarded"] += self.pair.discard(job_id)
