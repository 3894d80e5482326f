"""The service that applications create and look up jobs with, over a queue of somebody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest

from portico_celery.exceptions import NotSupported, UnknownJobType, ValidationError
from portico_celery.kits.job import HandlerRegistry, JobService
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_admin import JobAdmin
from portico_celery.ports.job_creator import JobCreator
from portico_celery.ports.job_reader import JobFilter, JobReader, JobRecord
from portico_celery.ports.job_store import Claim
from tests.unit.queue_in_memory import NineMethods, QueueInMemory

T = TypeVar("T")

MAIL = "email.send"
IDS = [UUID(int=number) for number in range(1, 4)]


@pytest.fixture
def queue() -> QueueInMemory:
    return QueueInMemory()


@pytest.fixture
def service(queue: QueueInMemory) -> JobService:
    return JobService(queue)


@pytest.fixture
def registry() -> HandlerRegistry:
    registry = HandlerRegistry()
    registry.declare(MAIL)
    registry.declare("report.daily", queue="reports")
    return registry


@pytest.fixture
def knowing(queue: QueueInMemory, registry: HandlerRegistry) -> JobService:
    return JobService(queue, registry=registry)


def done(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


class TestCreating:
    def test_a_created_job_is_stored(self, service: JobService, queue: QueueInMemory) -> None:
        job = done(service.create_job(MAIL, {"to": "zsofia"}, "mail", 5))
        assert queue.jobs == [job]
        assert (job.job_type, job.payload, job.queue_name, job.priority) == (MAIL, {"to": "zsofia"}, "mail", 5)
        assert job.status is JobStatus.PENDING
        assert job.created_at is not None

    def test_two_arguments_are_enough(self, service: JobService) -> None:
        job = done(service.create_job(MAIL, {}))
        assert (job.queue_name, job.priority, job.max_retries) == ("default", 0, 3)

    def test_the_keywords_reach_the_job(self, service: JobService) -> None:
        creator = uuid4()
        job = done(
            service.create_job(
                MAIL,
                {},
                scheduled_at=datetime(2130, 1, 2),  # noqa: DTZ001 (a naive time is taken as UTC)
                max_retries=0,
                created_by=creator,
                metadata={"m": 1},
                job_id=str(IDS[0]),
            )
        )
        assert (job.status, job.scheduled_at) == (JobStatus.SCHEDULED, datetime(2130, 1, 2, tzinfo=UTC))
        assert (job.id, job.max_retries, job.created_by, job.metadata) == (IDS[0], 0, creator, {"m": 1})

    def test_a_job_whose_id_exists_is_returned_as_it_is_stored(self, service: JobService, queue: QueueInMemory) -> None:
        first = done(service.create_job(MAIL, {"n": 1}, job_id=IDS[0]))
        assert done(service.create_job(MAIL, {"n": 2}, job_id=IDS[0])) == first
        assert queue.jobs == [first]

    @pytest.mark.parametrize(
        "arguments",
        [
            {"payload": {"a": {1}}},
            {"payload": "text"},
            {"queue_name": ""},
            {"priority": "high"},
            {"max_retries": -1},
            {"scheduled_at": "tomorrow"},
            {"job_id": "seven"},
            {"created_by": 7},
            {"metadata": []},
            {"countdown": 5},
            {"job_type": ""},
        ],
    )
    def test_what_can_not_be_accepted_stores_nothing(
        self, service: JobService, queue: QueueInMemory, arguments: dict[str, Any]
    ) -> None:
        with pytest.raises(ValidationError, match=next(iter(arguments))):
            done(service.create_job(**{"job_type": MAIL, "payload": {}, **arguments}))
        assert queue.jobs == []

    def test_a_large_payload_is_refused(self, queue: QueueInMemory) -> None:
        service = JobService(queue, max_payload_bytes=20)
        assert done(service.create_job(MAIL, {"text": "x" * 5})).payload == {"text": "x" * 5}
        with pytest.raises(ValidationError, match="the limit is 20"):
            done(service.create_job(MAIL, {"text": "x" * 20}))

    def test_it_is_all_three_ports(self, service: JobService) -> None:
        assert isinstance(service, JobCreator)
        assert isinstance(service, JobReader)
        assert isinstance(service, JobAdmin)

    @pytest.mark.parametrize("needed", [True, False])
    def test_it_needs_an_event_loop_where_its_queue_does(self, needed: bool) -> None:
        assert JobService(QueueInMemory(needs_event_loop=needed)).needs_event_loop is needed


class TestKnowingTheTypes:
    def test_a_type_that_nobody_knows_is_refused(self, knowing: JobService, queue: QueueInMemory) -> None:
        with pytest.raises(UnknownJobType, match=r"report\.weekly.*known: email\.send, report\.daily"):
            done(knowing.create_job("report.weekly", {}))
        with pytest.raises(ValueError, match=r"report\.weekly"):
            done(knowing.create_once("report.weekly", {}, job_id=IDS[0]))
        assert queue.jobs == []

    def test_without_a_registry_any_type_is_taken(self, service: JobService) -> None:
        assert done(service.create_job("report.weekly", {})).job_type == "report.weekly"

    def test_a_type_registered_later_is_known(self, knowing: JobService, registry: HandlerRegistry) -> None:
        registry.declare("report.weekly")
        assert done(knowing.create_job("report.weekly", {})).job_type == "report.weekly"

    def test_a_job_goes_to_the_queue_of_its_type(self, knowing: JobService) -> None:
        assert done(knowing.create_job("report.daily", {})).queue_name == "reports"
        assert done(knowing.create_once("report.daily", {}, job_id=IDS[0]))[0].queue_name == "reports"
        [job] = done(knowing.create_jobs([{"job_type": "report.daily", "payload": {}}]))
        assert job.queue_name == "reports"

    def test_a_queue_that_is_named_comes_first(self, knowing: JobService) -> None:
        assert done(knowing.create_job("report.daily", {}, "urgent")).queue_name == "urgent"

    def test_a_type_without_a_queue_goes_to_the_default_one(self, knowing: JobService) -> None:
        assert done(knowing.create_job(MAIL, {})).queue_name == "default"


class TestCreatingOnce:
    def test_it_says_whether_it_created_the_job(self, service: JobService, queue: QueueInMemory) -> None:
        first, created = done(service.create_once(MAIL, {"n": 1}, job_id=IDS[0], max_retries=7))
        assert (created, first.id, first.max_retries) == (True, IDS[0], 7)
        assert done(service.create_once(MAIL, {"n": 2}, job_id=str(IDS[0]))) == (first, False)
        assert queue.jobs == [first]

    def test_an_id_that_is_none_is_refused(self, service: JobService) -> None:
        with pytest.raises(ValidationError, match="job_id"):
            done(service.create_once(MAIL, {}, job_id="seven"))


class TestCreatingMany:
    def test_many_jobs_are_stored_in_one_round_trip_and_returned_in_order(
        self, service: JobService, queue: QueueInMemory
    ) -> None:
        jobs = done(
            service.create_jobs(
                {"job_type": MAIL, "payload": {"n": number}, "queue_name": "mail", "priority": number, "job_id": job_id}
                for number, job_id in enumerate(IDS)
            )
        )
        assert [(job.id, job.payload, job.priority) for job in jobs] == [
            (job_id, {"n": number}, number) for number, job_id in enumerate(IDS)
        ]
        assert queue.batches == 1
        assert {job.id for job in queue.jobs} == set(IDS)

    def test_those_that_exist_are_returned_as_they_are_stored(self, service: JobService, queue: QueueInMemory) -> None:
        first = done(service.create_job(MAIL, {"n": 1}, job_id=IDS[0]))
        items = [{"job_type": MAIL, "payload": {"n": 2}, "job_id": job_id} for job_id in IDS[:2]]
        jobs = done(service.create_jobs(items))
        assert jobs[0] == first
        assert jobs[1].payload == {"n": 2}
        assert len(queue.jobs) == 2

    def test_none_is_no_round_trip(self, service: JobService, queue: QueueInMemory) -> None:
        assert done(service.create_jobs([])) == []
        assert queue.batches == 0

    @pytest.mark.parametrize(
        ("item", "fault"),
        [
            ({"payload": {}}, "job_type is missing"),
            ({"job_type": MAIL}, "payload is missing"),
            ({"job_type": MAIL, "payload": {"a": {1}}}, r"payload\.a is a set"),
            ({"job_type": MAIL, "payload": {}, "countdown": 5}, "countdown"),
            ({"job_type": MAIL, "payload": {}, "job_id": "seven"}, "job_id"),
            ({"job_type": MAIL, "payload": {}, "queue_name": ""}, "queue_name"),
            ({"job_type": MAIL, "payload": {}, "priority": None}, "priority"),
            ("text", "a mapping"),
            (None, "a mapping"),
            ([("job_type", MAIL)], "a mapping"),
        ],
    )
    def test_a_fault_in_one_names_it_and_stores_none(
        self, service: JobService, queue: QueueInMemory, item: Any, fault: str
    ) -> None:
        good = {"job_type": MAIL, "payload": {}}
        with pytest.raises(ValidationError, match=f"^job 1: .*{fault}"):
            done(service.create_jobs([good, item, good]))
        assert queue.jobs == []

    def test_an_unknown_type_among_many_keeps_its_kind_of_error(
        self, knowing: JobService, queue: QueueInMemory
    ) -> None:
        items = [{"job_type": job_type, "payload": {}} for job_type in (MAIL, "report.weekly")]
        with pytest.raises(UnknownJobType, match=r"^job 1: .*report\.weekly"):
            done(knowing.create_jobs(items))
        assert queue.jobs == []

    def test_the_callers_items_stay_as_they_are(self, service: JobService) -> None:
        item = {"job_type": MAIL, "payload": {"n": [1]}, "priority": 1}
        done(service.create_jobs([item]))
        assert item == {"job_type": MAIL, "payload": {"n": [1]}, "priority": 1}


class TestReading:
    def test_a_job_is_found_by_its_id_or_its_text(self, service: JobService) -> None:
        job = done(service.create_job(MAIL, {}))
        assert done(service.get_job(job.id)) == done(service.get_job(str(job.id))) == job
        assert done(service.get_record(job.id)) == done(service.get_record(str(job.id))) == JobRecord(job=job)

    def test_a_job_that_is_not_there_is_none(self, service: JobService) -> None:
        assert done(service.get_job(IDS[0])) is None
        assert done(service.get_record(IDS[0])) is None

    def test_jobs_are_listed_by_page(self, service: JobService) -> None:
        jobs = [done(service.create_job(MAIL, {"n": number})) for number in range(3)]
        first = done(service.list_jobs(JobFilter(limit=2)))
        second = done(service.list_jobs(JobFilter(limit=2, cursor=first.next_cursor)))
        assert [*first.jobs, *second.jobs] == jobs[::-1]
        assert second.next_cursor is None

    @pytest.mark.parametrize("limit", [0, -1, 1_001])
    def test_a_page_of_no_size_or_of_too_much_is_refused(self, service: JobService, limit: int) -> None:
        with pytest.raises(ValidationError, match="limit must be from 1 to 1000"):
            done(service.list_jobs(JobFilter(limit=limit)))

    def test_a_queue_is_counted(self, service: JobService) -> None:
        done(service.create_job(MAIL, {}, "mail"))
        assert done(service.get_queue_stats("mail")).pending_count == 1
        assert done(service.get_queue_stats("default")).pending_count == 0

    def test_of_a_queue_the_jobs_of_one_caller_are_counted_apart(self, service: JobService) -> None:
        ann, bob = uuid4(), uuid4()
        for who in (ann, ann, bob):
            done(service.create_job(MAIL, {}, "mail", created_by=who))
        counts = [done(service.get_queue_stats("mail", created_by=who)).pending_count for who in (ann, bob)]
        assert counts == [2, 1]

    def test_a_queue_that_can_not_be_is_refused(self, service: JobService) -> None:
        with pytest.raises(ValidationError, match="queue_name"):
            done(service.get_queue_stats("a b"))


class TestChanging:
    def test_a_job_that_waits_is_cancelled_once(self, service: JobService) -> None:
        job = done(service.create_job(MAIL, {}))
        assert done(service.cancel_job(str(job.id))) is True
        assert done(service.cancel_job(job.id)) is False
        cancelled = done(service.get_job(job.id))
        assert cancelled is not None
        assert (cancelled.status, cancelled.error_message) == (JobStatus.FAILED, "Job cancelled")

    def test_a_job_that_runs_is_cancelled_only_where_it_is_asked_for(
        self, service: JobService, queue: QueueInMemory
    ) -> None:
        job = done(service.create_job(MAIL, {}))
        queue.store.claim([Claim(job_id=job.id, worker="worker-1", lease_seconds=30)])
        assert done(service.cancel_job(job.id)) is False
        assert done(service.cancel_job(str(job.id), running=True)) is True
        assert done(service.cancel_job(job.id, running=True)) is False
        cancelled = done(service.get_job(job.id))
        assert cancelled is not None
        assert (cancelled.status, cancelled.error_message) == (JobStatus.FAILED, "Job cancelled")

    def test_a_failed_job_is_requeued_once(self, service: JobService, queue: QueueInMemory) -> None:
        job = done(service.create_job(MAIL, {}))
        assert done(service.requeue_job(job.id)) is False
        done(service.cancel_job(job.id))
        assert done(service.requeue_job(str(job.id))) is True
        assert queue.waits(job.id)

    def test_a_job_that_ended_is_discarded_once(self, service: JobService) -> None:
        job = done(service.create_job(MAIL, {}))
        assert done(service.discard_job(job.id)) is False
        done(service.cancel_job(job.id))
        assert done(service.discard_job(str(job.id))) is True
        assert done(service.discard_job(job.id)) is False
        assert done(service.get_job(job.id)) is None

    @pytest.mark.parametrize("method", ["get_job", "get_record", "cancel_job", "requeue_job", "discard_job"])
    def test_an_id_that_is_none_is_refused(self, service: JobService, method: str) -> None:
        with pytest.raises(ValidationError, match="job_id must be a UUID"):
            done(getattr(service, method)("seven"))


UNSUPPORTED: list[tuple[str, Callable[[JobService], Coroutine[Any, Any, object]]]] = [
    ("enqueue_all", lambda service: service.create_jobs([{"job_type": MAIL, "payload": {}}])),
    ("enqueue_all", lambda service: service.create_once(MAIL, {}, job_id=IDS[0])),
    ("get_record", lambda service: service.get_record(IDS[0])),
    ("list_jobs", lambda service: service.list_jobs(JobFilter())),
    ("requeue_jobs", lambda service: service.requeue_job(IDS[0])),
    ("discard_jobs", lambda service: service.discard_job(IDS[0])),
    ("clock, which requeueing", lambda service: service.requeue_jobs(JobFilter())),
    ("clock, which requeueing", lambda service: service.discard_jobs(JobFilter())),
]


class PorticosOwnPort(NineMethods):
    """Has no more parameters than Portico's port."""

    async def cancel_job(self, job_id: UUID | str) -> bool:  # type: ignore[override]  # that is what it is for
        return await super().cancel_job(job_id)


class TestAQueueOfTheNineMethods:
    def test_it_need_not_know_of_cancelling_what_runs(self) -> None:
        service = JobService(PorticosOwnPort())
        job: Job = done(service.create_job(MAIL, {}))
        assert done(service.cancel_job(job.id)) is True

    def test_it_creates_finds_cancels_and_counts(self) -> None:
        service = JobService(NineMethods())
        job: Job = done(service.create_job(MAIL, {}))
        assert done(service.get_job(job.id)) == job
        assert done(service.get_queue_stats("default")).pending_count == 1
        assert done(service.cancel_job(job.id)) is True

    @pytest.mark.parametrize(("operation", "call"), UNSUPPORTED)
    def test_what_it_can_not_do_is_said_by_name(
        self, operation: str, call: Callable[[JobService], Coroutine[Any, Any, object]]
    ) -> None:
        with pytest.raises(NotSupported, match=f"NineMethods does not support {operation}"):
            done(call(JobService(NineMethods())))
