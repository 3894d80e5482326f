"""Whatever may befall the jobs in a store, in any order, as a state machine for Hypothesis."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, consumes, initialize, multiple, precondition, rule

from portico_celery.lifecycle import Lost
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_store import Claim, ClaimedJob
from tests.faults.store_choices import (
    OUTCOMES,
    NewJob,
    claim_of,
    delays,
    finish_of,
    job_ids,
    lease_of,
    new_jobs,
    outcomes,
    pauses,
    workers,
)
from tests.faults.store_pair import TICK
from tests.faults.watched_store import WatchedStore

knocks: Bundle[UUID] = Bundle("knocks")
claims: Bundle[ClaimedJob] = Bundle("claims")
expired: Bundle[ClaimedJob] = Bundle("expired")


class StoreMachine(WatchedStore):
    """Producers, workers, reapers, operators and time, each doing what it likes."""

    @initialize(target=knocks, new=st.lists(new_jobs, min_size=1, max_size=4))
    def create_the_first(self, new: list[NewJob]) -> MultipleResults[UUID]:
        return self._create(new)

    @rule(target=knocks, new=new_jobs)
    def create(self, new: NewJob) -> MultipleResults[UUID]:
        return self._create([new])

    @rule(target=knocks, new=st.lists(new_jobs, min_size=2, max_size=5))
    def create_many(self, new: list[NewJob]) -> MultipleResults[UUID]:
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

    @rule(target=claims, knock=consumes(knocks), worker=workers)
    def deliver_a_knock(self, knock: UUID, worker: str) -> MultipleResults[ClaimedJob]:
        return self._claim([claim_of(knock, worker)])

    @rule(target=claims, knock=knocks, worker=workers)
    def deliver_a_doubled_knock(self, knock: UUID, worker: str) -> MultipleResults[ClaimedJob]:
        return self._claim([claim_of(knock, worker)])

    @rule(target=claims, wanted=st.lists(job_ids, min_size=1, max_size=4, unique=True), worker=workers)
    def claim_without_a_knock(self, wanted: list[UUID], worker: str) -> MultipleResults[ClaimedJob]:
        return self._claim([claim_of(job_id, worker) for job_id in wanted])

    @rule(target=claims, new=new_jobs, worker=workers)
    def adopt(self, new: NewJob, worker: str) -> MultipleResults[ClaimedJob]:
        job = replace(self._job(new), scheduled_at=None)
        return self._claim([replace(claim_of(job.id, worker), adopt=job, envelope={"task_id": worker})])

    def _claim(self, wanted: list[Claim]) -> MultipleResults[ClaimedJob]:
        taken = [claimed for claimed in self.pair.claim(wanted) if claimed is not None]
        notices = sum(claimed.job.status is JobStatus.DEAD_LETTER for claimed in taken)
        self.seen["claimed"] += len(taken) - notices
        self.seen["claim_refused"] += len(wanted) - len(taken)
        self.seen["notices"] += notices
        return multiple(*taken)

    @rule(held=consumes(claims), outcome=outcomes, delay=delays)
    def finish(self, held: ClaimedJob, outcome: str, delay: int) -> None:
        self.end([finish_of(held, OUTCOMES[outcome], delay)], "finished")

    @rule(held=st.lists(claims, min_size=2, max_size=4), outcome=outcomes, delay=delays)
    def finish_together(self, held: list[ClaimedJob], outcome: str, delay: int) -> None:
        self.end([finish_of(one, OUTCOMES[outcome], delay) for one in held], "finished")

    @rule(held=st.lists(claims, min_size=1, max_size=4))
    def renew_leases(self, held: list[ClaimedJob]) -> None:
        kept = self.pair.extend([lease_of(one) for one in held])
        self.seen["renewed"] += sum(kept)
        self.seen["renewal_refused"] += len(kept) - sum(kept)

    @rule(target=knocks)
    def sweep(self) -> MultipleResults[UUID]:
        known = len(self.pair.reference.rows)
        found = self.pair.sweep()
        self.seen["swept"] += len(found.knocks)
        self.seen["deleted"] += known - len(self.pair.reference.rows)
        return multiple(*(knock.job.id for knock in found.knocks))

    @precondition(lambda self: self.pair.reference.next_due_in() is not None)
    @rule()
    def sweep_a_tick_before_the_next_job_is_due_and_when_it_is(self) -> None:
        wait = self.pair.reference.next_due_in() or TICK
        self.pair.advance(wait - TICK)
        self.pair.sweep()
        self.pair.advance(TICK)
        found = self.pair.sweep()
        assert found.knocks or found.expired

    @rule(target=expired)
    def find_lost_workers(self) -> MultipleResults[ClaimedJob]:
        return multiple(*self.pair.sweep().expired)

    @rule(found=expired, delay=delays)
    def reap_what_was_found_earlier(self, found: ClaimedJob, delay: int) -> None:
        self._reap([found], delay)

    @rule(delay=delays)
    def find_lost_workers_and_reap(self, delay: int) -> None:
        self._reap(list(self.pair.sweep().expired), delay)

    def _reap(self, found: list[ClaimedJob], delay: int) -> None:
        losses = [(one, Lost(worker=one.worker, attempt=one.attempt)) for one in found]
        self.end([finish_of(one, lost, delay, expired_only=True) for one, lost in losses], "reaped")

    @rule(held=claims)
    def settle_a_notice(self, held: ClaimedJob) -> None:
        row = self.pair.reference.rows.get(held.job.id)
        self.seen["settled"] += row is not None and row.owes_notice and row.attempt == held.attempt
        self.pair.settle_loss(lease_of(held))

    @rule(job_id=job_ids)
    def cancel(self, job_id: UUID) -> None:
        self.seen["cancelled"] += self.pair.cancel(job_id)

    @rule(target=knocks, job_id=job_ids)
    def requeue(self, job_id: UUID) -> MultipleResults[UUID]:
        requeued = self.pair.requeue(job_id) is not None
        self.seen["requeued"] += requeued
        return multiple(job_id) if requeued else multiple()

    @rule(job_id=job_ids)
    def discard(self, job_id: UUID) -> None:
        self.seen["discarded"] += self.pair.discard(job_id)

    @rule(pause=pauses)
    def let_time_pass(self, pause: int) -> None:
        self.pair.advance(pause * TICK)
