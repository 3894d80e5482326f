"""What becomes of jobs whose type a worker has no handler for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Event, Semaphore, Thread
from uuid import UUID

import pytest
from celery import Celery

from portico_celery.adapters.celery.process_io import ProcessIO, ProcessIOProvider
from portico_celery.adapters.celery.settings import PorticoSettings
from portico_celery.adapters.celery.unknown_jobs import UnknownJobs
from portico_celery.adapters.job_store.memory_store import MemoryJobStore
from portico_celery.exceptions import StoreUnavailable
from portico_celery.lifecycle import Lost, decide
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import JobFilter, JobRecord
from portico_celery.ports.job_store import Claim, ClaimedJob, Finish, Postponement
from portico_celery.utils.logging import fields_of
from tests.waiting import eventually

PATIENCE = 900.0
JOB = Job(id=UUID(int=7), queue_name="default", job_type="email.send", payload={}, max_retries=2)


def meeting(job_id: UUID, job_type: str = "email.send") -> Postponement:
    return Postponement(job_id=job_id, job_type=job_type, worker="worker-1@localhost/1", patience=PATIENCE)


@dataclass
class Clock:
    now: datetime = datetime(2030, 1, 2, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def step(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class WatchedStore(MemoryJobStore):
    """Notes how it is asked to put jobs back. It may be away, and it may be slow."""

    def __init__(self, now: Clock) -> None:
        super().__init__(now=now)
        self.batches: list[int] = []
        self.away = False
        self.begun, self.may_answer = Event(), Event()
        self.may_answer.set()

    def postpone(self, postponements: Sequence[Postponement]) -> list[Job | None]:
        self.batches.append(len(postponements))
        self.begun.set()
        assert self.may_answer.wait(10)
        if self.away:
            raise StoreUnavailable("the store is away")
        return super().postpone(postponements)


class Setting:
    """A store with one job in it, and workers that don't know its type."""

    def __init__(self, app: Celery) -> None:
        self.clock = Clock()
        self.store = WatchedStore(now=self.clock)
        self.provider = ProcessIOProvider(
            lambda: ProcessIO(app, self.store, PorticoSettings(store_url="memory://")), prepare=lambda: None
        )
        self.unknown_jobs = UnknownJobs(self.provider, clock=lambda: self.clock.now.timestamp())

    def insert(self, job: Job = JOB) -> None:
        self.store.insert([job], knock_seconds=30)

    def met(self, job_type: str = "email.send") -> JobRecord:
        """Have a worker that does not know it meet the job; returns what is stored then."""
        self.meet([JOB.id], job_type)
        return self.record

    def meet(
        self, job_ids: list[UUID], job_type: str = "email.send", *, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """Have such a worker meet jobs, all at once, and wait until their messages are acknowledged."""
        answers = Semaphore(0)
        for job_id in job_ids:
            self.unknown_jobs.put_back(meeting(job_id, job_type), answers.release)
        meanwhile()
        for _ in job_ids:
            assert answers.acquire(timeout=10), "a message was not acknowledged"

    @property
    def record(self) -> JobRecord:
        record = self.store.get(JOB.id)
        assert record is not None
        return record

    def claim(self) -> ClaimedJob | None:
        [claimed] = self.store.claim([Claim(job_id=JOB.id, worker="worker-2@localhost/1", lease_seconds=30)])
        return claimed

    def pause_until_due(self) -> float:
        """Let time pass until the job may start; returns how many seconds that took."""
        before = self.clock.now
        while self.clock.now - before < timedelta(hours=1):
            self.clock.step(1)
            if any(knock.job.id == JOB.id for knock in self.store.take_due(limit=10, knock_seconds=3_600).knocks):
                return (self.clock.now - before).total_seconds()
        raise AssertionError(f"it is not due again: {self.record}")


@pytest.fixture
def setting() -> Iterator[Setting]:
    app = Celery("unknown", broker="memory://", set_as_current=False)
    setting = Setting(app)
    yield setting
    setting.provider.close()
    app.close()


@pytest.mark.parametrize("max_retries", [0, 2])
def test_it_waits_longer_each_time_and_spends_no_retry(setting: Setting, max_retries: int) -> None:
    setting.insert(replace(JOB, max_retries=max_retries))
    pauses = []
    for _ in range(8):
        job = setting.met().job
        assert (job.status, job.retry_count) == (JobStatus.PENDING, 0)
        assert str(job.error_message).startswith("NoHandler: worker-1@localhost/")
        assert setting.claim() is None, "it may start before its time"
        pauses.append(setting.pause_until_due())
    assert pauses == [2, 2, 4, 8, 16, 32, 60, 60]
    claimed = setting.claim()
    assert claimed is not None
    assert (claimed.job.retry_count, claimed.lost_error) == (0, None)


def test_it_is_a_dead_letter_when_patience_ends_and_then_stays_as_it_is(setting: Setting) -> None:
    setting.insert()
    began = setting.clock.now
    while setting.met().job.status is JobStatus.PENDING:
        assert setting.clock.now - began < timedelta(seconds=PATIENCE)
        setting.pause_until_due()
    dead = setting.record
    assert dead.job.status is JobStatus.DEAD_LETTER
    assert str(dead.job.error_message).startswith("UnknownJobType: ")
    assert PATIENCE <= (setting.clock.now - began).total_seconds() < PATIENCE + 60
    assert setting.met() == dead


def test_a_requeued_dead_letter_gets_all_the_patience_again(setting: Setting) -> None:
    setting.insert()
    while setting.met().job.status is JobStatus.PENDING:
        setting.pause_until_due()
    setting.clock.step(3_600)
    assert setting.store.requeue(JobFilter(job_ids=(JOB.id,)), knock_seconds=30).knocks
    assert setting.met().job.status is JobStatus.PENDING
    assert setting.pause_until_due() == 2
    assert setting.met().job.status is JobStatus.PENDING


def test_patience_begins_anew_where_a_worker_has_had_the_job_meanwhile(setting: Setting) -> None:
    setting.insert()
    setting.met()
    setting.clock.step(PATIENCE)
    lose(setting)
    setting.clock.step(PATIENCE)
    assert setting.met().job.status is JobStatus.RETRYING
    assert setting.pause_until_due() == 2


def lose(setting: Setting) -> str:
    """Have a worker that knows the job take it and be lost; returns the error."""
    claimed = setting.claim()
    assert claimed is not None
    setting.clock.step(31)
    transition = decide(claimed.job, Lost(worker=claimed.worker, attempt=claimed.attempt))
    finish = Finish(job_id=JOB.id, attempt=claimed.attempt, transition=transition, expired_only=True)
    assert setting.store.finish([finish]) != [None]
    return str(transition.error_message)


def test_the_handler_still_hears_of_a_worker_that_was_lost_before(setting: Setting) -> None:
    setting.insert()
    error = lose(setting)
    for _ in range(3):
        assert setting.met().job.retry_count == 1
        setting.pause_until_due()
    claimed = setting.claim()
    assert claimed is not None
    assert str(claimed.lost_error).endswith(error)
    assert str(claimed.lost_error).count("WorkerLost: ") == 1


def test_a_dead_letter_that_owes_its_handler_such_news_waits_for_one_that_can_be_told(setting: Setting) -> None:
    setting.insert(replace(JOB, max_retries=0))
    lose(setting)
    dead = setting.record
    assert setting.met() == dead
    assert setting.pause_until_due() == 1, "who could be told has to wait"
    assert setting.claim() is not None, "nobody can be told"


def test_a_message_with_another_job_type_than_the_jobs_own_does_nothing(setting: Setting) -> None:
    setting.insert()
    before = setting.record
    assert setting.met("nobody.knows") == before


def test_a_job_that_there_is_none_of_is_passed_over(setting: Setting) -> None:
    setting.meet([JOB.id])
    setting.insert()
    assert setting.met().job.status is JobStatus.PENDING


def many(setting: Setting, number: int) -> list[UUID]:
    """Store many jobs; their ids."""
    ids = [UUID(int=1_000 + place) for place in range(number)]
    setting.store.insert([replace(JOB, id=job_id) for job_id in ids], knock_seconds=30)
    return ids


def test_jobs_that_come_together_are_put_back_together(setting: Setting) -> None:
    ids = many(setting, 500)
    setting.store.may_answer.clear()
    setting.meet(ids, meanwhile=setting.store.may_answer.set)
    assert sum(setting.store.batches) == 500
    assert len(setting.store.batches) <= 4


def test_a_message_is_acknowledged_when_its_job_has_been_put_back_and_not_before(setting: Setting) -> None:
    setting.insert()
    setting.store.may_answer.clear()
    acknowledged = Event()
    setting.unknown_jobs.put_back(meeting(JOB.id), acknowledged.set)
    assert setting.store.begun.wait(10)
    assert not acknowledged.is_set()
    setting.store.may_answer.set()
    assert acknowledged.wait(10)
    assert str(setting.record.job.error_message).startswith("NoHandler: ")


def test_while_the_store_is_away_messages_are_acknowledged_and_the_job_stays_due(
    setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    setting.insert()
    before = setting.record
    setting.store.away = True
    for _ in range(5):
        setting.meet([JOB.id])
    assert [record.levelname for record in caplog.records if "unknown_jobs_stay_due" in record.message] == ["ERROR"]
    setting.store.away = False
    assert setting.record == before
    assert setting.pause_until_due() == 30


def test_a_worker_that_stops_drops_what_waits_and_returns_its_messages(setting: Setting) -> None:
    [first, *others] = many(setting, 300)
    setting.store.may_answer.clear()
    acknowledged: list[UUID] = []
    for job_id in (first, *others):
        setting.unknown_jobs.put_back(meeting(job_id), partial(acknowledged.append, job_id))
    assert setting.store.begun.wait(10)
    writes = setting.provider.get().writes
    closing = Thread(target=setting.provider.close)
    closing.start()
    eventually(lambda: writes.closing)
    setting.store.may_answer.set()
    closing.join(10)
    assert acknowledged == []
    assert len(setting.store.batches) == 1


def test_thousands_of_jobs_of_one_type_are_told_of_in_a_few_lines(
    setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    ids = many(setting, 3_000)
    setting.meet(ids[:2_999])
    setting.clock.step(11)
    setting.meet(ids[2_999:])
    told = [fields_of(record) or {} for record in caplog.records if "unknown_job_type" in record.message]
    assert [(fields["job_type"], fields["status"], fields["count"]) for fields in told] == [
        ("email.send", "pending", 1),
        ("email.send", "pending", 2_999),
    ]
