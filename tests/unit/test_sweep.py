"""What the sweep leaves alone when the store comes back."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from celery import Celery

from portico_celery.adapters.celery.process_io import ProcessIO
from portico_celery.adapters.celery.settings import PorticoSettings
from portico_celery.adapters.celery.sweep import Sweep
from portico_celery.adapters.job_store.memory_store import MemoryJobStore
from portico_celery.exceptions import StoreUnavailable
from portico_celery.lifecycle import RetryPolicy
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_store import Claim, DueWork, Lease
from tests.waiting import eventually

LEASE = 0.3
SECONDS = 10.0


class StoreThatGoesAway(MemoryJobStore):
    """Does not answer a sweep while it is ``away``."""

    away = False

    def take_due(self, *, limit: int, knock_seconds: float) -> DueWork:
        if self.away:
            raise StoreUnavailable("away")
        return super().take_due(limit=limit, knock_seconds=knock_seconds)

    def claim_one(self) -> Lease:
        """Have a worker take a job."""
        job = Job(id=uuid4(), queue_name="default", job_type="email.send", payload={}, max_retries=0)
        self.insert([job], knock_seconds=30)
        [claimed] = self.claim([Claim(job_id=job.id, worker="worker-1", lease_seconds=LEASE)])
        assert claimed is not None
        return Lease(job_id=job.id, attempt=claimed.attempt)

    def status(self, job_id: UUID) -> JobStatus:
        """Return the state of a job that is there."""
        record = self.get(job_id)
        assert record is not None
        return record.job.status

    def expired(self) -> bool:
        """Whether a lease has run out."""
        return bool(self.take_due(limit=10, knock_seconds=30).expired)


@pytest.fixture
def store() -> StoreThatGoesAway:
    return StoreThatGoesAway()


@pytest.fixture
def sweep(store: StoreThatGoesAway) -> Iterator[Sweep]:
    app = Celery("sweeping", broker="portico-memory://", set_as_current=False)
    io = ProcessIO(app, store, PorticoSettings(store_url="memory://", lease_seconds=LEASE, sweep_seconds=0.01))
    yield Sweep(io, RetryPolicy())
    io.close()
    app.close()


def go_away_and_come_back(store: StoreThatGoesAway, sweep: Sweep) -> None:
    store.away = True
    with pytest.raises(StoreUnavailable):
        sweep.run(store)
    store.away = False


def test_a_worker_that_could_not_renew_its_lease_meanwhile_has_the_time_to_do_it(
    store: StoreThatGoesAway, sweep: Sweep
) -> None:
    lease = store.claim_one()
    eventually(store.expired, SECONDS, "a lease that has run out")
    go_away_and_come_back(store, sweep)
    assert sweep.run(store) > 0
    assert store.extend([lease], lease_seconds=LEASE) == [True]
    assert store.status(lease.job_id) is JobStatus.RUNNING


def test_one_that_does_not_renew_it_has_lost_its_job(store: StoreThatGoesAway, sweep: Sweep) -> None:
    lease = store.claim_one()
    eventually(store.expired, SECONDS, "a lease that has run out")
    go_away_and_come_back(store, sweep)

    def is_reaped() -> bool:
        sweep.run(store)
        return store.status(lease.job_id) is JobStatus.DEAD_LETTER

    eventually(is_reaped, SECONDS, "a job whose worker is lost")


def test_a_lost_worker_is_found_at_once_where_the_store_was_there(store: StoreThatGoesAway, sweep: Sweep) -> None:
    lease = store.claim_one()
    eventually(store.expired, SECONDS, "a lease that has run out")
    sweep.run(store)
    assert store.status(lease.job_id) is JobStatus.DEAD_LETTER
