"""The leases of a process: renewed while their jobs run, and what is done with the runs that have lost theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest

from portico_celery.adapters.celery.io_thread import IOThread
from portico_celery.adapters.celery.leases import Leases
from portico_celery.adapters.job_store.memory_store import MemoryJobStore
from portico_celery.lifecycle import Lost, decide
from portico_celery.ports.job import Job
from portico_celery.ports.job_store import Claim, ClaimedJob, Finish, Lease
from tests.waiting import eventually

LEASE = 0.3
SECONDS = 10.0


@dataclass
class Setting:
    """A store, and the leases of one process."""

    store: MemoryJobStore
    leases: Leases
    interrupted: list[UUID] = field(default_factory=list)

    def claim(self, *, max_retries: int = 3) -> ClaimedJob:
        job = Job(id=uuid4(), queue_name="default", job_type="email.send", payload={}, max_retries=max_retries)
        self.store.insert([job], knock_seconds=30)
        [claimed] = self.store.claim([Claim(job_id=job.id, worker="worker-1", lease_seconds=LEASE)])
        assert claimed is not None
        return claimed

    def interrupter(self, claimed: ClaimedJob) -> Callable[[], None]:
        return lambda: self.interrupted.append(claimed.job.id)


@pytest.fixture
def setting() -> Iterator[Setting]:
    store = MemoryJobStore()
    thread = IOThread(store, name="leases")
    yield Setting(store, Leases(thread, lease_seconds=LEASE))
    thread.close()


def cancel(store: MemoryJobStore, claimed: ClaimedJob) -> None:
    assert store.cancel(claimed.job.id, running=True)


def reap(store: MemoryJobStore, claimed: ClaimedJob) -> None:
    transition = decide(claimed.job, Lost(worker=claimed.worker, attempt=claimed.attempt))
    assert store.finish([Finish(job_id=claimed.job.id, attempt=claimed.attempt, transition=transition)]) != [None]


@pytest.mark.parametrize("max_retries", [0, 3])
@pytest.mark.parametrize("take_away", [cancel, reap])
def test_a_run_whose_job_was_taken_away_is_stopped_once(
    take_away: Callable[[MemoryJobStore, ClaimedJob], None], max_retries: int, setting: Setting
) -> None:
    lost, kept = setting.claim(max_retries=max_retries), setting.claim()
    stopped = threading.Event()
    with setting.leases.held(lost, stopped.set), setting.leases.held(kept, setting.interrupter(kept)):
        take_away(setting.store, lost)
        assert stopped.wait(SECONDS)
        assert not setting.leases.holds(lost)
        assert setting.leases.holds(kept)
    assert setting.interrupted == []


def test_the_lease_of_a_run_that_is_gone_is_renewed_no_more(setting: Setting) -> None:
    gone, kept = setting.claim(), setting.claim()
    with (
        setting.leases.held(gone, setting.interrupter(gone), can_go_on=lambda: False),
        setting.leases.held(kept, setting.interrupter(kept)),
    ):
        eventually(lambda: not setting.leases.holds(gone))
        assert setting.leases.holds(kept)
        assert setting.leases.runs == 1
    assert setting.interrupted == []


def test_only_runs_whose_jobs_may_start_again_are_interrupted(setting: Setting) -> None:
    once, again = setting.claim(max_retries=0), setting.claim(max_retries=1)
    with setting.leases.held(once, setting.interrupter(once)), setting.leases.held(again, setting.interrupter(again)):
        assert setting.leases.interrupt() == [again]
        assert setting.interrupted == [again.job.id]
        assert setting.leases.holds(once)
        assert setting.leases.holds(again), "a run that was asked to stop has its lease until it has"


def test_a_run_that_has_ended_is_held_no_more(setting: Setting) -> None:
    ended, released = setting.claim(), setting.claim()
    with setting.leases.held(ended, setting.interrupter(ended)):
        pass
    with setting.leases.held(released, setting.interrupter(released)):
        setting.leases.release(Lease(job_id=released.job.id, attempt=released.attempt))
        assert setting.leases.interrupt() == []
    assert not setting.leases.holds(ended)
    assert not setting.leases.holds(released)
    assert setting.interrupted == []
