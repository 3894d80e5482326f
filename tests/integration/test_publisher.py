"""Knocks reach the broker, are counted as arrived only when it has confirmed them, and are sent again where not."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from kombu import Connection, Exchange, Queue

from portico_celery import PorticoCelery
from portico_celery.adapters.celery import broker_link, topology
from tests.integration.fake_broker import FakeBroker, Policy, Published
from tests.services import PrivateRabbitMQ, free_port
from tests.waiting import eventually

PERSISTENT = 2
# Long enough for a broker that answers, on a busy machine.
SECONDS = 20.0
# For how long a publisher waits for a confirmation, where a test is about that: longer than what is done meanwhile.
SHORT_PATIENCE = 2.0


@dataclass(kw_only=True)
class Client:
    """An application that creates jobs of one queue."""

    portico: PorticoCelery
    queue_name: str

    def create(self, priority: int = 0, **payload: Any) -> str:
        job = self.portico.sync.create_job("email.send", payload, self.queue_name, priority)
        return str(job.id)

    def create_many(self, count: int) -> list[str]:
        wanted = {"job_type": "email.send", "payload": {}, "queue_name": self.queue_name}
        return [str(job.id) for job in self.portico.sync.create_jobs([wanted] * count)]

    def flush(self, timeout: float = SECONDS) -> bool:
        return self.portico.flush(timeout)


@contextmanager
def client_of(url: str, directory: Path, queue_name: str) -> Iterator[Client]:
    app = Celery("client", broker=url, set_as_current=False)
    portico = PorticoCelery(app, store=f"sqlite:///{directory / 'jobs.db'}")
    portico.declare("email.send")
    try:
        yield Client(portico=portico, queue_name=queue_name)
    finally:
        portico.close()
        app.close()


def taken(url: str, queue_name: str) -> list[Any]:
    """Take all messages out of a queue that is there already."""
    messages: list[Any] = []  # the type stubs take every property for a text
    with Connection(url) as connection:
        queue = Queue(queue_name, channel=connection.default_channel)
        while (message := queue.get(no_ack=True)) is not None:
            messages.append(message)
    return messages


def job_ids(messages: list[Any]) -> list[str]:
    return [message.headers["id"] for message in messages]


class TestRealBroker:
    """With a RabbitMQ that does as it should."""

    @pytest.fixture
    def client(self, amqp_url: str, tmp_path: Path, queue_name: str) -> Iterator[Client]:
        with client_of(amqp_url, tmp_path, queue_name) as client:
            yield client

    def test_a_knock_arrives_persistent_with_its_headers(self, client: Client, amqp_url: str) -> None:
        job_id = client.create(to="ann@example.com", password="canary")
        assert client.flush()
        (message,) = taken(amqp_url, client.queue_name)
        assert message.properties["delivery_mode"] == PERSISTENT
        assert message.properties["correlation_id"] == job_id
        assert message.content_type == "application/json"
        assert message.headers["task"] == "email.send"
        assert message.headers["id"] == job_id
        assert message.headers["portico"] == {"kind": "knock", "job_id": job_id}
        assert message.headers["kwargsrepr"] == "{'to': 'ann@example.com', 'password': '***'}"
        assert message.payload[:2] == [[], {}]
        assert "canary" not in str((message.headers, message.body))

    @pytest.mark.parametrize(
        ("priority", "sent"), [(-(2**31), 0), (-1, 0), (0, 0), (1, 1), (10, 10), (11, 10), (2**31 - 1, 10)]
    )
    def test_a_priority_is_clamped_to_what_the_broker_knows(
        self, client: Client, amqp_url: str, priority: int, sent: int
    ) -> None:
        client.create(priority)
        assert client.flush()
        (message,) = taken(amqp_url, client.queue_name)
        assert message.properties["priority"] == sent

    def test_higher_priorities_come_first_then_older_ones(self, client: Client, amqp_url: str) -> None:
        created = [(priority, client.create(priority)) for priority in (0, 5, 10, 5, -3, 99, 1)]
        assert client.flush()
        clamped = sorted(created, key=lambda job: -min(10, max(0, job[0])))  # sorted() keeps the order of equals
        assert job_ids(taken(amqp_url, client.queue_name)) == [job_id for _priority, job_id in clamped]

    def test_a_burst_of_2000_is_confirmed_and_arrives_each_once(self, client: Client, amqp_url: str) -> None:
        created = client.create_many(2_000)
        assert client.flush()
        assert job_ids(taken(amqp_url, client.queue_name)) == created

    def test_a_queue_that_was_deleted_is_noticed_and_made_again(self, client: Client, amqp_url: str) -> None:
        before = client.create()
        assert client.flush()
        assert job_ids(taken(amqp_url, client.queue_name)) == [before]
        with Connection(amqp_url) as connection:
            Queue(client.queue_name, channel=connection.default_channel).delete()

        after = [client.create(priority) for priority in (1, 7)]
        assert client.flush()
        # Made again as it was: with priorities.
        assert sorted(job_ids(taken(amqp_url, client.queue_name))) == sorted(after)
        later = [client.create(priority) for priority in (1, 7)]
        assert client.flush()
        assert job_ids(taken(amqp_url, client.queue_name)) == later[::-1]

    def test_a_queue_that_the_broker_refuses_is_logged_and_holds_up_nobody(
        self, client: Client, amqp_url: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        refused = client.portico.sync.create_job("email.send", {}, f"amq.{uuid4().hex}")
        wanted = client.create()
        again = client.portico.sync.create_job("email.send", {}, refused.queue_name)
        later = client.create()
        assert client.flush()
        assert job_ids(taken(amqp_url, client.queue_name)) == [wanted, later]
        lines = [record.getMessage() for record in caplog.records if "knock_refused" in record.getMessage()]
        assert [str(refused.id) in lines[0], str(again.id) in lines[1]] == [True, True]
        assert refused.queue_name in lines[0]
        assert len(lines) == 2

    def test_closing_sends_what_waits(self, client: Client, amqp_url: str) -> None:
        created = client.create_many(300)
        client.portico.close()
        assert job_ids(taken(amqp_url, client.queue_name)) == created

    def test_a_client_that_was_closed_goes_on_at_its_next_use(self, client: Client, amqp_url: str) -> None:
        first = client.create()
        client.portico.close()
        second = client.create()
        assert client.flush()
        assert job_ids(taken(amqp_url, client.queue_name)) == [first, second]


def test_what_was_unconfirmed_when_the_broker_was_killed_arrives_once_it_is_back(
    private_rabbitmq: Callable[..., PrivateRabbitMQ], tmp_path: Path
) -> None:
    node = private_rabbitmq()
    with client_of(node.url, tmp_path, "jobs") as client:
        confirmed = client.create()
        assert client.flush()

        node.freeze()
        # Sent, and unanswered for ever: the node dies with them.
        unconfirmed = client.create_many(20)
        assert not client.flush(timeout=0.5)
        node.kill()
        meanwhile = client.create_many(5)
        assert not client.flush(timeout=0.5)

        node.start()
        assert client.flush()
        assert job_ids(taken(node.url, "jobs")) == [confirmed, *unconfirmed, *meanwhile]


def test_flush_gives_up_in_time_when_there_is_no_broker(tmp_path: Path) -> None:
    with client_of(f"amqp://guest:guest@127.0.0.1:{free_port()}//", tmp_path, "jobs") as client:
        client.create()
        began = time.monotonic()
        assert not client.flush(timeout=0.3)
        assert 0.3 <= time.monotonic() - began < SECONDS  # who waited for the broker would wait for ever


class Script:
    """Answers the first messages as told, one answer each, and confirms the rest."""

    def __init__(self, *answers: Policy) -> None:
        self._answers = list(answers)

    def __call__(self, message: Published) -> None:
        answer = self._answers.pop(0) if self._answers else Published.ack
        answer(message)


def keep_silent(_message: Published) -> None:
    """Say nothing: not yet, or never."""


def bounce_and_confirm(message: Published) -> None:
    message.bounce()
    message.ack()


def confirm_something_else(message: Published) -> None:
    for tag in (0, message.tag + 1, 2**63):
        message.ack(tag=tag)


class TestLyingBroker:
    """With one that loses, doubts or forgets."""

    @pytest.fixture
    def short_of_patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(broker_link, "CONFIRM_SECONDS", SHORT_PATIENCE)

    def test_a_late_confirmation_is_waited_for_and_nothing_is_sent_twice(self, tmp_path: Path) -> None:
        with FakeBroker(keep_silent) as broker, client_of(broker.url, tmp_path, "jobs") as client:
            client.create_many(3)
            eventually(lambda: len(broker.published) == 3, SECONDS, "three messages")
            assert not client.flush(timeout=0.5)
            broker.published[-1].ack(multiple=True)
            assert client.flush()
            assert [message.tag for message in broker.published] == [1, 2, 3]
            assert broker.connections == 1

    def test_confirmations_out_of_order_are_all_counted(self, tmp_path: Path) -> None:
        with FakeBroker(keep_silent) as broker, client_of(broker.url, tmp_path, "jobs") as client:
            client.create_many(3)
            eventually(lambda: len(broker.published) == 3, SECONDS, "three messages")
            for index in (2, 0):
                broker.published[index].ack()
            assert not client.flush(timeout=0.3)
            broker.published[1].ack()
            assert client.flush()
            assert len(broker.published) == 3

    def test_all_is_sent_mandatory(self, tmp_path: Path) -> None:
        with FakeBroker(Published.ack) as broker, client_of(broker.url, tmp_path, "jobs") as client:
            client.create()
            assert client.flush()
            assert broker.published[0].mandatory

    @pytest.mark.usefixtures("short_of_patience")
    def test_what_is_never_confirmed_is_sent_again_over_a_new_connection(self, tmp_path: Path) -> None:
        script = Script(keep_silent, keep_silent)
        with FakeBroker(script) as broker, client_of(broker.url, tmp_path, "jobs") as client:
            created = client.create_many(2)
            assert not client.flush(timeout=0.4)
            assert client.flush()
            assert [(message.connection, message.tag) for message in broker.published] == [
                (1, 1),
                (1, 2),
                (2, 1),
                (2, 2),
            ]
            assert sent_ids(broker) == [*created, *created]

    def test_a_refused_message_is_sent_again(self, tmp_path: Path) -> None:
        script = Script(Published.nack, Published.nack, keep_silent)
        with FakeBroker(script) as broker, client_of(broker.url, tmp_path, "jobs") as client:
            job_id = client.create()
            eventually(lambda: len(broker.published) == 3, SECONDS, "the third try")
            assert not client.flush(timeout=0.3)
            broker.published[-1].ack()
            assert client.flush()
            assert sent_ids(broker) == [job_id] * 3

    def test_refused_messages_are_not_sent_again_and_again_at_once(self, tmp_path: Path) -> None:
        with FakeBroker(Published.nack) as broker, client_of(broker.url, tmp_path, "jobs") as client:
            client.create_many(5)
            assert not client.flush(timeout=2.0)
            # Once, after a second again, and then after two more.
            assert len(broker.published) <= 10

    def test_a_message_that_comes_back_is_not_counted_though_it_is_confirmed(self, tmp_path: Path) -> None:
        script = Script(bounce_and_confirm, keep_silent)
        with FakeBroker(script) as broker, client_of(broker.url, tmp_path, "jobs") as client:
            job_id = client.create()
            eventually(lambda: len(broker.published) == 2, SECONDS, "the second try")
            assert not client.flush(timeout=0.3)
            broker.published[-1].ack()
            assert client.flush()
            assert sent_ids(broker) == [job_id] * 2

    def test_a_message_that_comes_back_does_not_take_others_with_it(self, tmp_path: Path) -> None:
        script = Script(keep_silent, Published.bounce, keep_silent)
        with FakeBroker(script) as broker, client_of(broker.url, tmp_path, "jobs") as client:
            first, second, third = client.create_many(3)
            eventually(lambda: len(broker.published) == 3, SECONDS, "three messages")
            broker.published[2].ack(multiple=True)
            assert client.flush()
            assert sent_ids(broker) == [first, second, third, second]

    @pytest.mark.usefixtures("short_of_patience")
    def test_confirming_what_was_never_sent_counts_for_nothing(self, tmp_path: Path) -> None:
        script = Script(confirm_something_else)
        with FakeBroker(script) as broker, client_of(broker.url, tmp_path, "jobs") as client:
            job_id = client.create()
            assert not client.flush(timeout=0.4)
            assert client.flush()
            assert sent_ids(broker) == [job_id] * 2

    def test_a_connection_that_breaks_before_the_confirmation_leaves_the_message_to_be_sent_again(
        self, tmp_path: Path
    ) -> None:
        script = Script(Published.ack, Published.drop_connection)
        with FakeBroker(script) as broker, client_of(broker.url, tmp_path, "jobs") as client:
            confirmed = client.create()
            assert client.flush()
            unconfirmed = client.create()
            assert client.flush()
            assert sent_ids(broker) == [confirmed, unconfirmed, unconfirmed]
            assert broker.connections == 2

    @pytest.mark.usefixtures("short_of_patience")
    def test_a_broker_that_blocks_publishing_is_not_taken_for_dead(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with FakeBroker(keep_silent) as broker, client_of(broker.url, tmp_path, "jobs") as client:
            client.create()
            eventually(lambda: broker.published, SECONDS, "the message")
            broker.block()
            eventually(lambda: "broker_blocks_publishing" in caplog.text, SECONDS, "the publisher hears of it")
            assert not client.flush(timeout=1.5 * SHORT_PATIENCE)
            broker.published[0].ack()
            assert client.flush()
            assert (len(broker.published), broker.connections) == (1, 1)

    @pytest.mark.usefixtures("short_of_patience")
    def test_nothing_is_sent_to_a_broker_that_blocks_publishing_until_it_no_longer_does(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with FakeBroker(Published.ack) as broker, client_of(broker.url, tmp_path, "jobs") as client:
            client.create()
            assert client.flush()
            broker.block()
            eventually(lambda: "broker_blocks_publishing" in caplog.text, SECONDS, "the publisher hears of it")
            client.create_many(3)
            # Longer than its patience with a broker that does not confirm: this one has said why.
            assert not client.flush(timeout=1.5 * SHORT_PATIENCE)
            assert len(broker.published) == 1
            broker.unblock()
            assert client.flush()
            assert (len(broker.published), broker.connections) == (4, 1)


def sent_ids(broker: FakeBroker) -> list[str]:
    """The jobs that were knocked for, in the order in which the broker got them."""
    return [message.message_id for message in broker.published]


SCRIPT = """
import sys
from celery import Celery
from portico_celery import PorticoCelery

portico = PorticoCelery(Celery("script", broker=sys.argv[1]), store=f"sqlite:///{sys.argv[2]}/jobs.db")
portico.declare("email.send", queue=sys.argv[3])
portico.sync.create_job("email.send", {})
"""


@pytest.mark.parametrize("server", ["amqp_url", "redis_url"])
def test_a_script_that_ends_at_once_has_sent_its_message(
    server: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, name = request.getfixturevalue(server), f"portico-test-{uuid4().hex}"
    command = [sys.executable, "-c", SCRIPT, url, str(tmp_path), name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    with Connection(url) as connection:
        assert topology.depth(connection, name) == 1, done.stderr
        Queue(name, channel=connection.default_channel).delete()
        Exchange(name, channel=connection.default_channel).delete()
    assert "broker_unreachable" not in done.stderr
