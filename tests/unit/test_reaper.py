"""How the attempts of lost workers are given up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from portico_celery.adapters.job_store.memory_store import MemoryJobStore
from portico_celery.adapters.job_store.reaper import reap_all
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_store import Claim, ClaimedJob, Finish, Lease

LEASE = 30.0
MOST = 500


class CountingStore(MemoryJobStore):
    """Its clock is turned by hand, and it counts the calls by which attempts end."""

    def __init__(self) -> None:
        self.moment = datetime(2030, 1, 2, tzinfo=UTC)
        super().__init__(now=lambda: self.moment)
        self.finish_calls = 0

    def finish(self, finishes: Sequence[Finish]) -> list[Job | None]:
        self.finish_calls += 1
        return super().finish(finishes)

    def expired(self, number: int) -> Sequence[ClaimedJob]:
        """Store jobs and lose their workers."""
        jobs = [Job(id=uuid4(), queue_name="default", job_type="email.send", payload={}) for _ in range(number)]
        self.insert(jobs, knock_seconds=LEASE)
        self.claim([Claim(job_id=job.id, worker="worker-1", lease_seconds=LEASE) for job in jobs])
        self.moment += timedelta(seconds=LEASE + 1)
        return self.take_due(limit=MOST, knock_seconds=LEASE).expired


def test_however_many_workers_were_lost_the_store_is_called_once() -> None:
    store = CountingStore()
    expired = store.expired(MOST)
    jobs = reap_all(store, expired, retry_delay=lambda claimed: float(claimed.attempt))
    assert [job and job.id for job in jobs] == [claimed.job.id for claimed in expired]
    assert {job and job.status for job in jobs} == {JobStatus.RETRYING}
    assert store.finish_calls == 1


def test_where_no_worker_was_lost_the_store_is_left_alone() -> None:
    store = CountingStore()
    assert reap_all(store, [], retry_delay=lambda _claimed: 0.0) == []
    assert store.finish_calls == 0


def test_an_attempt_whose_lease_was_renewed_meanwhile_goes_on_while_the_others_are_given_up() -> None:
    store = CountingStore()
    first, renewed, last = store.expired(3)
    store.extend([Lease(job_id=renewed.job.id, attempt=renewed.attempt)], lease_seconds=LEASE)
    jobs = reap_all(store, [first, renewed, last], retry_delay=lambda _claimed: 0.0)
    assert [job is None for job in jobs] == [False, True, False]
    assert store.holder(renewed.job.id) == renewed
