"""A message that no worker can read is parked with the reason; it ends no worker, and holds up nothing behind it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from amqp import Message as AMQPMessage
from kombu import Connection, Queue

from tests.integration.worker_process import Journey, Worker, a_journey
from tests.services import PrivateRabbitMQ
from tests.waiting import eventually

PARKED = "portico.parked"
REASON = "portico-parked-reason"
CASE = "test-case"
SECONDS = 20.0
JSON = "application/json"


class Canary:
    """Whoever unpickles it makes the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


@dataclass(frozen=True, kw_only=True)
class Malformed:
    """A message as it is put into the queue: a proper one but for what is said; a header of None is left out."""

    body: bytes = json.dumps([[], {}, {}]).encode()
    content_type: str | None = JSON
    content_encoding: str | None = "utf-8"
    task_headers: dict[str, Any] | None = field(default_factory=dict)

    def message(self, case: str) -> AMQPMessage:
        headers: dict[str, Any] = {CASE: case}
        if self.task_headers is not None:
            proper = {"lang": "py", "task": "journey.succeed", "id": str(uuid4()), **self.task_headers}
            headers |= {name: value for name, value in proper.items() if value is not None}
        properties = {"content_type": self.content_type, "content_encoding": self.content_encoding}
        known = {name: value for name, value in properties.items() if value is not None}
        return AMQPMessage(self.body, application_headers=headers, delivery_mode=2, **known)


def malformed(directory: Path) -> dict[str, Malformed]:
    unpickled = pickle.dumps([[], {}, Canary(directory / "unpickled")])
    return {
        "two parts instead of three": Malformed(body=b"[1,2]"),
        "no id": Malformed(task_headers={"id": None}),
        "no task": Malformed(task_headers={"task": None}),
        "no headers": Malformed(task_headers=None),
        "a task name that is a list": Malformed(task_headers={"task": ["journey.succeed"]}),
        "a body that is no JSON": Malformed(body=b"{not json"),
        "an empty body": Malformed(body=b""),
        "a body of null": Malformed(body=b"null"),
        "an unknown content type": Malformed(content_type="application/x-strange"),
        "garbage": Malformed(body=b"\x00\xff\xfe\x80", content_type=None, content_encoding=None, task_headers=None),
        "garbage with a task": Malformed(body=b"\x00\xff\xfe\x80", content_type=None, content_encoding=None),
        "a pickle": Malformed(body=unpickled, content_type="application/x-python-serialize", content_encoding="binary"),
        "a pickle without a task": Malformed(
            body=unpickled,
            content_type="application/x-python-serialize",
            content_encoding="binary",
            task_headers=None,
        ),
        "an eta that is no time": Malformed(task_headers={"eta": "tomorrow"}),
        "an expiry that is no time": Malformed(task_headers={"expires": "never"}),
        "time limits that are no numbers": Malformed(task_headers={"timelimit": "xx"}),
        "time limits that are lists": Malformed(task_headers={"timelimit": [[1], [2]]}),
        "one time limit": Malformed(task_headers={"timelimit": [1]}),
        "an id that is a dict": Malformed(task_headers={"id": {"a": 1}}),
        "arguments that are no list": Malformed(body=b"[5,{},{}]"),
        "keyword arguments that are a text": Malformed(body=b'[[],"abc",{}]'),
        "options that are a number": Malformed(body=b"[[],{},5]"),
        "a text of three letters": Malformed(body=b'"abc"'),
        "arguments that are too deep": Malformed(body=b'[[],{"a":' + b"[" * 700 + b"]" * 700 + b"},{}]"),
        "JSON that is too deep": Malformed(body=b"[" * 100_000 + b"]" * 100_000),
    }


@pytest.fixture
def journey(amqp_url: str, tmp_path: Path) -> Iterator[Journey]:
    with a_journey(amqp_url, tmp_path) as journey:
        yield journey


def publish(journey: Journey, messages: list[AMQPMessage]) -> None:
    with Connection(journey.broker_url) as connection:
        channel: Any = connection.default_channel
        for message in messages:
            channel.basic_publish(message, routing_key=journey.queue_name)


class Parked:
    """What has been parked of one test's messages; those of others are left where they are."""

    def __init__(self, connection: Connection, cases: set[str]) -> None:
        self._queue = Queue(PARKED, channel=connection.default_channel)
        self._cases = cases
        self.messages: dict[str, Any] = {}
        self.total = 0

    def all_there(self) -> bool:
        others = []
        while (message := self._queue.get()) is not None:
            if (case := message.headers.get(CASE)) in self._cases:
                self.messages[case] = message
                self.total += 1
                message.ack()
            else:
                others.append(message)
        # At once, as somebody may look for them, who has ours in hand.
        for message in others:
            message.requeue()
        return self._cases <= set(self.messages)


def wait_until_idle(journey: Journey, worker: Worker) -> None:
    with Connection(journey.broker_url) as connection:
        queue: Any = Queue(journey.queue_name, channel=connection.default_channel)
        eventually(
            lambda: queue.queue_declare(passive=True).message_count == 0,
            SECONDS,
            lambda: f"an empty queue\n{worker.log_tail}",
        )


def as_bytes(body: str | bytes) -> bytes:
    return body.encode() if isinstance(body, str) else bytes(body)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_each_malformed_message_is_parked_with_its_reason_and_the_good_job_behind_them_runs(
    pool: str, journey: Journey
) -> None:
    prefix = uuid4().hex
    cases = {f"{prefix} {case}": message for case, message in malformed(journey.directory).items()}
    with journey.worker(pool) as worker, Connection(journey.broker_url) as connection:
        publish(journey, [message.message(case) for case, message in cases.items()])
        job_id = journey.create("journey.succeed", {"good": True})
        assert journey.completed(job_id).result_data == {"payload": {"good": True}}

        parked = Parked(connection, set(cases))
        eventually(parked.all_there, SECONDS, lambda: f"{set(cases) - set(parked.messages)}\n{worker.log_tail}")
        wait_until_idle(journey, worker)
        assert worker.running

    assert parked.total == len(cases)
    for case, message in parked.messages.items():
        assert message.headers[REASON], case
        assert as_bytes(message.body) == cases[case].body
        assert message.properties["delivery_mode"] == 2
        assert f"message_parked queue={PARKED}" in worker.log
    assert not (journey.directory / "unpickled").exists()
    assert [line.job_id for line in journey.ledger(kind="start")] == [str(job_id)]


def taken_with_its_queue(url: str) -> str | None:
    """Delete the queue of parked messages where it has one; returns which case it was."""
    with Connection(url) as connection:
        queue: Any = Queue(PARKED, channel=connection.default_channel)
        try:
            message = queue.get(no_ack=True)
        except connection.channel_errors:
            return None  # it is not made yet
        if message is None:
            return None
        queue.delete()
        return str(message.headers[CASE])


def test_parking_uses_its_queue_as_it_is_found_and_makes_it_again_when_it_is_gone(
    private_rabbitmq: Callable[..., PrivateRabbitMQ], tmp_path: Path
) -> None:
    # On a broker of its own, as the queue's name is everybody's.
    node = private_rabbitmq()
    with Connection(node.url) as connection:
        Queue(PARKED, channel=connection.default_channel, queue_arguments={"x-max-length": 50}).queue_declare()
    with a_journey(node.url, tmp_path) as journey, journey.worker("solo") as worker:
        for case in ("into a queue of somebody's making", "where there is no queue any more"):
            publish(journey, [Malformed(body=b"[1,2]").message(case)])
            found = eventually(lambda: taken_with_its_queue(node.url), SECONDS, lambda: worker.log_tail)
            assert found == case
        assert worker.running
