"""Pull mode on real brokers: jobs are taken one by one from the queues and messages that workers consume from."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from celery import Celery
from kombu import Connection, Exchange, Queue

from portico_celery import PorticoCelery
from portico_celery.adapters.celery import topology
from portico_celery.adapters.celery.pull import sweep_on_demand
from portico_celery.adapters.job_queue.celery_queue import CeleryJobQueueAdapter
from portico_celery.exceptions import ResourceNotFoundError, StaleAttempt, StoreUnavailable, ValidationError
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import JobRecord
from tests.services import PrivateRabbitMQ, PrivateRedis
from tests.waiting import eventually

T = TypeVar("T")

# Long enough for every machine: only a job that is lost takes it.
PATIENCE = 20.0
# For how long a job is looked for that must not come.
A_MOMENT = 0.3
# No lease is over while a test does its work, though the machine may stand still for a moment: but for those of the
# tests that are about it, which have the short one.
LEASE, SHORT_LEASE = 30.0, 2.0
JOB_TYPE = "pull.work"
BROKERS = ("rabbitmq", "redis", "memory")


@dataclass(kw_only=True)
class Pulling:
    """An adapter, its broker and store, and an event loop to call it in."""

    broker_url: str
    store_url: str
    loop: asyncio.Runner
    settings: dict[str, Any] = field(default_factory=dict)
    queue_name: str = field(default_factory=lambda: f"portico-test-{uuid4().hex}")
    opened: list[PorticoCelery] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.portico = self.another()

    @property
    def adapter(self) -> CeleryJobQueueAdapter:
        return self.portico.queue

    def another(self, **configuration: Any) -> PorticoCelery:
        """Open the same queue once more, as another process would."""
        app = Celery("pull", broker=self.broker_url, set_as_current=False)
        timers = {"lease_seconds": LEASE, "sweep_seconds": 0.2, "retry_base_delay": 0.1, **self.settings}
        app.conf.update({f"portico_{name}": value for name, value in timers.items()} | configuration)
        portico = PorticoCelery(app, store=self.store_url)
        portico.declare(JOB_TYPE, queue=self.queue_name)
        self.opened.append(portico)
        return portico

    def reopen(self, **settings: float) -> None:
        """Go on with other portico_ settings, without the prefix."""
        self.settings.update(settings)
        self.portico = self.another()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(coroutine)

    def create(self, **options: Any) -> Job:
        """Create a job; its message has arrived."""
        job = self.portico.sync.create_job(JOB_TYPE, {}, **options)
        assert self.portico.flush(PATIENCE)
        return job

    def dequeue(self, timeout: float = PATIENCE) -> Job | None:
        return self.run(self.adapter.dequeue(self.queue_name, timeout))

    def take(self) -> Job:
        job = self.dequeue()
        assert job is not None, "no job came"
        return job

    def record(self, job_id: UUID) -> JobRecord:
        record = self.portico.sync.get_record(job_id)
        assert record is not None
        return record

    def status(self, job_id: UUID) -> JobStatus:
        return self.record(job_id).job.status

    @contextmanager
    def broker_queue(self, name: str | None = None) -> Iterator[Any]:
        with self.portico.app.connection_for_write() as connection:
            yield Queue(name or self.queue_name, channel=connection.channel())

    def ready_messages(self) -> int:
        """Count the messages that nobody has fetched."""
        with self.portico.app.connection_for_write() as connection:
            return topology.depth(connection, self.queue_name)

    def send(self, task: str = JOB_TYPE, **options: Any) -> str:
        """Send a task as a plain Celery client does, which knows nothing of us."""
        app = Celery("plain", broker=self.broker_url, set_as_current=False)
        app.conf.task_queue_max_priority = 10
        try:
            return str(app.send_task(task, queue=self.queue_name, **options).id)
        finally:
            app.close()

    def close(self) -> None:
        for portico in self.opened:
            portico.close()
            portico.app.close()


@contextmanager
def a_pulling(broker_url: str, store_url: str, **settings: Any) -> Iterator[Pulling]:
    with asyncio.Runner() as loop:
        pulling = Pulling(broker_url=broker_url, store_url=store_url, loop=loop, settings=settings)
        try:
            yield pulling
        finally:
            pulling.close()
            if broker_url.startswith("amqp"):
                # After the last who might knock, and make it again.
                with suppress(OSError), Connection(broker_url) as connection:
                    Queue(pulling.queue_name, channel=connection.default_channel).delete()
                    # Celery makes one of the same name.
                    Exchange(pulling.queue_name, channel=connection.default_channel).delete()


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> str:
    if request.param == "rabbitmq":
        return str(request.getfixturevalue("amqp_url"))
    if request.param == "redis":
        return str(request.getfixturevalue("private_redis")().url)
    return "portico-memory://"


@pytest.fixture
def pulling(broker: str, tmp_path: Path) -> Iterator[Pulling]:
    with a_pulling(broker, f"sqlite:///{tmp_path / 'jobs.db'}") as pulling:
        yield pulling


def test_a_job_is_taken_settled_and_not_taken_again(pulling: Pulling) -> None:
    created = pulling.create(priority=3, max_retries=1)

    taken = pulling.take()

    assert (taken.id, taken.status, taken.priority) == (created.id, JobStatus.RUNNING, 3)
    assert pulling.record(created.id).job == taken
    pulling.run(pulling.adapter.reject(created.id, error_message="once"))
    again = pulling.take()
    assert (again.id, again.retry_count) == (created.id, 1)
    pulling.run(pulling.adapter.acknowledge(created.id))
    assert pulling.status(created.id) is JobStatus.COMPLETED
    assert pulling.dequeue(A_MOMENT) is None
    # The messages are gone, too: the broker would bring back what nobody has acknowledged.
    pulling.portico.close()
    with pytest.raises(AssertionError):
        eventually(lambda: pulling.ready_messages() > 0, A_MOMENT)


def test_the_most_urgent_job_comes_first_also_when_it_was_created_while_others_waited(pulling: Pulling) -> None:
    for priority in (0, 9, 0, 6):
        pulling.create(priority=priority)
    order = [pulling.take().priority, pulling.take().priority]
    pulling.create(priority=9)
    order += [pulling.take().priority for _ in range(3)]
    assert order == [9, 6, 9, 0, 0]


def test_no_message_is_fetched_that_nobody_waits_for(pulling: Pulling) -> None:
    for _ in range(5):
        pulling.create()

    async def take_two() -> list[Job | None]:
        return list(await asyncio.gather(*(pulling.adapter.dequeue(pulling.queue_name, PATIENCE) for _ in range(2))))

    assert len({job.id for job in pulling.run(take_two()) if job is not None}) == 2
    eventually(lambda: pulling.ready_messages() == 3, PATIENCE, lambda: f"{pulling.ready_messages()} instead of 3")
    assert pulling.dequeue(0) is not None
    eventually(lambda: pulling.ready_messages() == 2, PATIENCE, lambda: f"{pulling.ready_messages()} instead of 2")


@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)
def test_what_is_left_in_the_queue_has_never_been_in_anybodys_hand(pulling: Pulling) -> None:
    for _ in range(5):
        pulling.create()
    for timeout in (PATIENCE, 0):
        assert pulling.dequeue(timeout) is not None
    with pulling.broker_queue() as queue:
        left = [queue.get(no_ack=True) for _ in range(4)]
    assert [message and message.delivery_info["redelivered"] for message in left] == [False, False, False, None]


def test_an_empty_queue_answers_none_when_the_time_is_over(pulling: Pulling) -> None:
    pulling.dequeue(0)  # connects
    late = []
    for timeout in (0.0, 0.05, A_MOMENT):
        began = time.monotonic()
        assert pulling.dequeue(timeout) is None
        late.append(time.monotonic() - began - timeout)
    assert min(late) >= -0.001
    assert statistics.median(late) < 0.5, late


def test_who_waits_is_woken_by_a_new_job(pulling: Pulling) -> None:
    # Whoever was woken by the sweep would wait for longer than a busy machine takes.
    pulling.reopen(sweep_seconds=10.0)

    async def wake_up() -> float:
        waiting = asyncio.create_task(pulling.adapter.dequeue(pulling.queue_name, PATIENCE))
        await asyncio.wait([waiting], timeout=0.05)
        await pulling.portico.service.create_job(JOB_TYPE, {})
        began = time.monotonic()
        job = await waiting
        assert job is not None
        return time.monotonic() - began

    # A few milliseconds on an idle machine; far less than the timers on a busy one.
    assert statistics.median(pulling.run(wake_up()) for _ in range(9)) < 0.5


def test_a_caller_that_is_cancelled_at_any_moment_leaves_no_job_behind(pulling: Pulling) -> None:
    rounds = 12

    async def cancel_at(delay: float) -> Job | None:
        waiting = asyncio.create_task(pulling.adapter.dequeue(pulling.queue_name, PATIENCE))
        await asyncio.sleep(delay)
        waiting.cancel()
        (job,) = await asyncio.gather(waiting, return_exceptions=True)
        return job if isinstance(job, Job) else None

    created = {pulling.create(max_retries=0).id for _ in range(rounds)}
    jobs = [pulling.run(cancel_at(0.002 * number)) for number in range(rounds)]
    taken = [job.id for job in jobs if job is not None]
    while len(taken) < rounds:
        taken.append(pulling.take().id)

    assert sorted(taken) == sorted(created)
    for job_id in created:
        record = pulling.record(job_id)
        assert (record.job.status, record.job.retry_count) == (JobStatus.RUNNING, 0)


def test_a_job_that_was_claimed_for_a_cancelled_caller_is_given_back_and_may_still_start(pulling: Pulling) -> None:
    job = pulling.create(max_retries=0)

    def answered() -> None:
        eventually(lambda: pulling.status(job.id) is JobStatus.RUNNING, PATIENCE)
        # What asks the store does one thing after the other: by now it has answered the caller as well. One that has
        # gone before would have its job handed to the next.
        pulling.portico.sync.cancel_job(uuid4())

    async def cancel_when_answered() -> None:
        waiting = asyncio.create_task(pulling.adapter.dequeue(pulling.queue_name, PATIENCE))
        await asyncio.sleep(0)
        # The loop stands still until the job has been claimed for the caller, which then is cancelled before it knows.
        with ThreadPoolExecutor() as other:
            claimed = other.submit(answered)
        claimed.result()
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()

    pulling.run(cancel_when_answered())

    again = pulling.take()
    assert (again.id, again.retry_count, again.status) == (job.id, 0, JobStatus.RUNNING)
    (given_back,) = [attempt for attempt in pulling.record(job.id).attempts if attempt.ended_at is not None]
    assert "Released" in str(given_back.error)


def test_the_lease_of_a_job_is_renewed_until_it_is_settled_here_or_elsewhere(pulling: Pulling) -> None:
    pulling.reopen(lease_seconds=SHORT_LEASE)
    here, elsewhere = pulling.create(max_retries=0), pulling.create(max_retries=0)
    assert {pulling.take().id, pulling.take().id} == {here.id, elsewhere.id}
    # Somebody sweeps all the while, and would take them for lost.
    assert pulling.dequeue(2 * SHORT_LEASE) is None
    assert pulling.status(here.id) is pulling.status(elsewhere.id) is JobStatus.RUNNING

    pulling.run(pulling.adapter.acknowledge(here.id))
    pulling.run(pulling.another().queue.acknowledge(elsewhere.id))

    assert pulling.dequeue(SHORT_LEASE) is None
    assert pulling.status(here.id) is pulling.status(elsewhere.id) is JobStatus.COMPLETED


def test_the_jobs_of_a_closed_adapter_may_be_settled_by_another_or_come_back_after_their_lease(
    pulling: Pulling,
) -> None:
    pulling.reopen(lease_seconds=SHORT_LEASE)
    settled, left = pulling.create(), pulling.create()
    first = pulling.another().queue
    assert {pulling.run(first.dequeue(pulling.queue_name, PATIENCE)).id for _ in range(2)} == {settled.id, left.id}  # type: ignore[union-attr]
    pulling.run(first.close())

    pulling.run(pulling.adapter.acknowledge(settled.id))

    again = pulling.take()
    assert (again.id, again.retry_count) == (left.id, 1)
    assert pulling.dequeue(A_MOMENT) is None


def test_who_waits_when_the_adapter_is_closed_is_answered_and_the_next_call_opens_it_again(pulling: Pulling) -> None:
    async def close_while_waiting() -> Job | None:
        waiting = asyncio.create_task(pulling.adapter.dequeue(pulling.queue_name, PATIENCE))
        await asyncio.wait([waiting], timeout=A_MOMENT)
        await pulling.adapter.close()
        async with asyncio.timeout(PATIENCE / 2):
            return await waiting

    assert pulling.run(close_while_waiting()) is None
    job = pulling.create()
    assert pulling.take().id == job.id


def test_lost_messages_scheduled_jobs_and_retries_come_without_any_worker(pulling: Pulling) -> None:
    pulling.reopen(knock_seconds=0.3)
    lost = pulling.create()
    with pulling.broker_queue() as queue:
        assert queue.purge() == 1
    assert pulling.take().id == lost.id
    pulling.run(pulling.adapter.reject(lost.id, retry_delay=0.5))
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    scheduled = pulling.create(scheduled_at=soon)

    taken = {job.id: job for job in (pulling.take(), pulling.take())}

    assert set(taken) == {lost.id, scheduled.id}
    assert (taken[scheduled.id].started_at or soon) >= soon
    assert taken[lost.id].retry_count == 1


@pytest.mark.parametrize("broker", ["memory"], indirect=True)
def test_the_adapter_ceases_to_sweep_when_nobody_waits_and_begins_again(
    pulling: Pulling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_on_demand, "_LINGER_SECONDS", 0.1)
    pulling.reopen(knock_seconds=0.3)
    assert pulling.dequeue(0) is None
    # Lingers for a moment, and looks again at the next of its turns.
    eventually(lambda: pulling.portico._io.get().writes._turns == [], PATIENCE)
    lost = pulling.create()
    with pulling.broker_queue() as queue:
        assert queue.purge() == 1
    with pytest.raises(AssertionError):
        eventually(lambda: pulling.ready_messages() > 0, 1.0)
    assert pulling.take().id == lost.id


def test_messages_of_jobs_that_are_not_to_be_run_are_cleared_away(pulling: Pulling) -> None:
    cancelled = [pulling.create(priority=9) for _ in range(3)]
    job = pulling.create()
    for each in cancelled:
        assert pulling.portico.sync.cancel_job(each.id)
    # Cancelling sends a message too; one that came after the job was taken would wait for the next caller.
    assert pulling.portico.flush(PATIENCE)

    assert pulling.take().id == job.id
    eventually(lambda: pulling.ready_messages() == 0, PATIENCE)
    assert pulling.dequeue(0) is None


def test_a_plain_clients_message_becomes_a_job_where_its_type_is_declared(pulling: Pulling) -> None:
    task_id = pulling.send(args=[{"to": "zsofia"}], kwargs={"number": 1})
    odd = pulling.send(task_id="order/17")

    jobs = {str(job.id): job for job in (pulling.take(), pulling.take())}

    adopted = jobs.pop(task_id)
    assert (adopted.job_type, adopted.queue_name) == (JOB_TYPE, pulling.queue_name)
    assert adopted.payload == {"to": "zsofia", "number": 1}
    (other,) = jobs.values()
    pulling.run(pulling.adapter.reject(other.id, error_message="once"))
    again = pulling.take()
    assert (again.id, again.retry_count, odd) == (other.id, 1, "order/17")
    for job in (adopted, again):
        pulling.run(pulling.adapter.acknowledge(job.id))
    # The sweep may have knocked as well for the job that was due again: such a message finds nothing to claim.
    eventually(lambda: pulling.dequeue(0) is None and pulling.ready_messages() == 0, PATIENCE)


def test_a_plain_clients_job_is_not_early_and_one_that_has_expired_is_dropped(pulling: Pulling) -> None:
    pulling.send(expires=datetime.now(UTC) - timedelta(seconds=1))
    eta = datetime.now(UTC) + timedelta(seconds=3.0)
    task_id = pulling.send(eta=eta)

    assert pulling.dequeue(A_MOMENT) is None
    job = pulling.take()

    assert str(job.id) == task_id
    assert job.started_at is not None
    assert job.started_at >= eta
    assert job.retry_count == 0
    # It waited without having been started.
    assert [attempt.number for attempt in pulling.record(job.id).attempts] == [1]
    assert pulling.dequeue(A_MOMENT) is None


def test_an_ordinary_task_of_the_app_is_left_to_its_workers(pulling: Pulling) -> None:
    @pulling.portico.app.task(name="plain.task", shared=False)
    def ordinary() -> None: ...

    pulling.send("plain.task")

    assert pulling.dequeue(0) is None
    eventually(lambda: pulling.ready_messages() == 1, PATIENCE)


def test_tasks_that_this_process_has_not_imported_are_left_as_they_are_and_the_jobs_behind_them_come(
    pulling: Pulling,
) -> None:
    sent = [pulling.send("shop.charge", kwargs={"cents": 995}) for _ in range(3)]
    jobs = [pulling.create() for _ in range(2)]

    assert pulling.dequeue(0) is not None
    assert pulling.take().id in {job.id for job in jobs}
    assert pulling.dequeue(A_MOMENT) is None

    eventually(lambda: pulling.ready_messages() == 3, PATIENCE)
    assert [pulling.portico.sync.get_job(task_id) for task_id in sent] == [None] * 3
    with pulling.broker_queue() as queue:
        left = [queue.get(no_ack=True) for _ in range(3)]
    assert [message and message.headers["id"] for message in left] == sent
    assert [message and message.payload[1] for message in left] == [{"cents": 995}] * 3


@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)
def test_a_task_that_is_passed_over_goes_back_while_its_caller_waits_on(pulling: Pulling) -> None:
    async def wait() -> bool:
        waiting = asyncio.create_task(pulling.adapter.dequeue(pulling.queue_name, 3 * PATIENCE))
        await asyncio.to_thread(pulling.send, "shop.charge")
        with ThreadPoolExecutor() as other:
            ran = await asyncio.wrap_future(other.submit(charged))
        waiting.cancel()
        return ran

    def charged() -> bool:
        # A worker that consumes, as the caller does that has fetched the task, until it has had it.
        eventually(lambda: pulling.ready_messages() == 0, PATIENCE)
        with pulling.broker_queue() as queue:
            got: list[str] = []

            def note(message: Any) -> None:
                got.append(message.headers["task"])
                message.ack()

            queue.consume("worker", callback=lambda raw: note(queue.channel.message_to_python(raw)))
            client = queue.channel.connection.client

            def came() -> bool:
                with suppress(TimeoutError):
                    client.drain_events(timeout=0.1)
                return bool(got)

            return bool(eventually(came, PATIENCE))

    assert pulling.run(wait())


def test_the_retry_of_a_plain_clients_job_is_as_urgent_as_its_message(pulling: Pulling) -> None:
    sent = {pulling.send(priority=priority): priority for priority in (0, 9)}
    first, second = pulling.take(), pulling.take()
    for job in (first, second):
        pulling.run(pulling.adapter.reject(job.id))
    # Both knocks are there, by this process's flush, before anybody takes one.
    assert pulling.portico.flush(PATIENCE)
    again = pulling.take()
    assert again.id == first.id, (sent, first, again)


MALFORMED: dict[str, dict[str, Any]] = {
    "no JSON": {"body": b"{not json"},
    "two parts": {"body": b"[1,2]"},
    "a pickle": {"body": b"\x80\x04N.", "content_type": "application/x-python-serialize"},
    "no task": {"headers": {"task": None}},
    "a task that is a list": {"headers": {"task": ["pull.work"]}},
    "no id": {"headers": {"id": None}},
    "an id that is a dict": {"headers": {"id": {"a": 1}}},
    "an eta that is no time": {"headers": {"eta": "tomorrow"}},
    "an expiry that is no time": {"headers": {"expires": "never"}},
    "arguments that are no list": {"body": b"[5,{},{}]"},
    "arguments that are too deep": {"body": b'[[],{"a":' + b"[" * 700 + b"]" * 700 + b"},{}]"},
}


@pytest.mark.parametrize("broker", ["rabbitmq", "redis"], indirect=True)
def test_messages_that_cannot_be_read_are_parked_and_the_job_behind_them_comes(pulling: Pulling) -> None:
    pulling.dequeue(0)  # makes the queue
    cases = {f"{uuid4().hex} {case}": message for case, message in MALFORMED.items()}
    with pulling.broker_queue() as queue:
        producer: Any = queue.channel.connection.client.Producer(queue.channel, auto_declare=False)
        for case, malformed in cases.items():
            proper = {"lang": "py", "task": JOB_TYPE, "id": str(uuid4()), "test-case": case}
            headers = {**proper, **malformed.get("headers", {})}
            producer.publish(
                malformed.get("body", json.dumps([[], {}, {}]).encode()),
                routing_key=pulling.queue_name,
                content_type=malformed.get("content_type", "application/json"),
                content_encoding="utf-8",
                headers={name: value for name, value in headers.items() if value is not None},
            )
    job = pulling.create()

    assert pulling.take().id == job.id

    found: set[str] = set()

    def all_found() -> bool:
        found.update(parked(pulling, set(cases)))
        return found == set(cases)

    # Other processes' tests may hold some of them for a moment, in search of their own.
    eventually(all_found, PATIENCE, lambda: f"all but {set(cases) - found}")


def parked(pulling: Pulling, cases: set[str]) -> set[str]:
    found: set[str] = set()
    with pulling.broker_queue("portico.parked") as queue:
        while (message := queue.get()) is not None:
            if message.headers.get("test-case") in cases:
                assert message.headers["portico-parked-reason"]
                found.add(message.headers["test-case"])
                message.ack()
    return found


def test_each_event_loop_of_each_thread_may_take_jobs(pulling: Pulling) -> None:
    created = {pulling.create().id for _ in range(4)}
    taken: list[UUID] = []

    def take_two() -> None:
        for _ in range(2):
            job = asyncio.run(pulling.adapter.dequeue(pulling.queue_name, PATIENCE))
            assert job is not None
            taken.append(job.id)

    threads = [threading.Thread(target=take_two) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(taken) == created


def test_what_can_not_be_is_refused(pulling: Pulling) -> None:
    for name in ("", "x" * 256, None):
        with pytest.raises(ValidationError, match="queue_name"):
            pulling.run(pulling.adapter.dequeue(name, PATIENCE))  # type: ignore[arg-type]
    no_queues = pulling.another(task_create_missing_queues=False)
    with pytest.raises(ValidationError, match="task_queues"):
        pulling.run(no_queues.queue.dequeue(pulling.queue_name, PATIENCE))
    for settle in (pulling.adapter.acknowledge, pulling.adapter.reject):
        with pytest.raises(ResourceNotFoundError):
            pulling.run(settle(uuid4()))
        with pytest.raises(StaleAttempt):
            pulling.run(settle(pulling.create().id))


@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)
def test_a_queue_name_that_the_broker_keeps_to_itself_is_refused(pulling: Pulling) -> None:
    for timeout in (0, PATIENCE):
        with pytest.raises(ValidationError, match="refused"):
            pulling.run(pulling.adapter.dequeue(f"amq.{uuid4().hex}", timeout))
    job = pulling.create()
    assert pulling.take().id == job.id


@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)
def test_who_waits_at_a_queue_that_is_deleted_waits_at_the_next_of_that_name(pulling: Pulling) -> None:
    async def delete_while_waiting() -> tuple[Job, set[UUID]]:
        waiting = [asyncio.create_task(pulling.adapter.dequeue(pulling.queue_name, PATIENCE)) for _ in range(3)]
        await asyncio.wait(waiting, timeout=A_MOMENT)
        for _ in range(2):
            with pulling.broker_queue() as queue:
                queue.delete()
            await asyncio.wait(waiting, timeout=A_MOMENT)
        gone = waiting.pop()
        gone.cancel()
        created = [await pulling.portico.service.create_job(JOB_TYPE, {}) for _ in range(3)]
        jobs = await asyncio.gather(*waiting)
        return created[-1], {job.id for job in jobs if job is not None} ^ {job.id for job in created}

    left, others = pulling.run(delete_while_waiting())
    assert others == {left.id}
    # Nobody is left who would fetch it and put it back.
    eventually(lambda: pulling.ready_messages() == 1, PATIENCE)
    assert pulling.take().id == left.id


def test_who_waits_waits_on_while_the_broker_is_down(
    private_rabbitmq: Callable[..., PrivateRabbitMQ], tmp_path: Path
) -> None:
    node = private_rabbitmq()
    with a_pulling(node.url, f"sqlite:///{tmp_path / 'jobs.db'}") as pulling:
        job = pulling.create()
        assert pulling.take().id == job.id
        node.kill()
        began = time.monotonic()
        assert pulling.dequeue(1.0) is None
        assert pulling.dequeue(0) is None
        assert time.monotonic() - began < 8.0  # and not for the broker, which is away for as long as we like

        async def wait_for_the_broker() -> Job | None:
            waiting = asyncio.create_task(pulling.adapter.dequeue(pulling.queue_name, 60))
            await asyncio.to_thread(node.start)
            created = await pulling.portico.service.create_job(JOB_TYPE, {})
            taken = await waiting
            assert taken is not None
            assert taken.id == created.id
            return taken

        pulling.run(wait_for_the_broker())


@pytest.mark.parametrize("kind", ["rabbitmq", "redis"])
def test_a_broker_that_stands_still_holds_up_no_caller_beyond_its_time(
    kind: str,
    private_rabbitmq: Callable[..., PrivateRabbitMQ],
    private_redis: Callable[..., PrivateRedis],
    tmp_path: Path,
) -> None:
    node = private_rabbitmq() if kind == "rabbitmq" else private_redis()
    with a_pulling(node.url, f"sqlite:///{tmp_path / 'jobs.db'}") as pulling:
        assert pulling.dequeue(0) is None
        node.freeze()
        try:
            for queue_name in (pulling.queue_name, f"{pulling.queue_name}-new"):
                for timeout in (0.0, 0.5):
                    began = time.monotonic()
                    assert pulling.run(pulling.adapter.dequeue(queue_name, timeout)) is None
                    assert time.monotonic() - began < 2.5
        finally:
            node.thaw()
        job = pulling.portico.sync.create_job(JOB_TYPE, {})
        taken = pulling.dequeue(60)
        assert taken is not None
        assert taken.id == job.id


def test_a_store_that_is_away_is_an_error_where_there_is_a_job_and_the_job_comes_when_it_is_back(
    amqp_url: str, private_redis: Callable[..., PrivateRedis]
) -> None:
    store = private_redis(appendfsync="always")
    with a_pulling(amqp_url, store.url) as pulling:
        first, job = pulling.create(), pulling.create()
        assert pulling.take().id == first.id
        pulling.run(pulling.adapter.acknowledge(first.id))
        store.kill()
        with pytest.raises(StoreUnavailable):
            pulling.dequeue(3.0)
        store.start()
        taken = pulling.take()
        assert (taken.id, taken.retry_count) == (job.id, 0)
        pulling.run(pulling.adapter.acknowledge(job.id))


def test_a_forked_child_takes_jobs_by_a_connection_of_its_own(amqp_url: str, tmp_path: Path) -> None:
    with a_pulling(amqp_url, f"sqlite:///{tmp_path / 'jobs.db'}") as pulling:
        created = {str(pulling.create().id) for _ in range(4)}
        done = subprocess.run(
            [sys.executable, "-c", FORKING, amqp_url, pulling.store_url, pulling.queue_name],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == created


FORKING = """
import asyncio, os, signal, sys
from celery import Celery
from portico_celery import PorticoCelery

portico = PorticoCelery(Celery("forking", broker=sys.argv[1]), store=sys.argv[2])

def take():
    job = asyncio.run(portico.queue.dequeue(sys.argv[3], 20))
    asyncio.run(portico.queue.acknowledge(job.id))
    print(job.id, flush=True)

take()
child = os.fork()
take()
if child == 0:
    signal.alarm(20)
    portico.close()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
take()
portico.close()
"""
