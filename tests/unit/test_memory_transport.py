"""The in-process broker hands out messages by priority, the oldest first among equals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from kombu import Connection, Exchange, Queue

from portico_celery.adapters.celery import memory_transport

URL = f"{memory_transport.SCHEME}://"


@pytest.fixture
def queue() -> Iterator[Queue]:
    memory_transport.register()
    with Connection(URL) as connection:
        queue = Queue(f"trial-{uuid4().hex}", Exchange(""), channel=connection.default_channel)
        queue.routing_key = queue.name
        queue.declare()
        yield queue
        queue.delete()


def publish(queue: Queue, body: str, **properties: Any) -> None:
    with Connection(URL) as connection:
        connection.Producer().publish(body, exchange="", routing_key=queue.name, **properties)


def drained(queue: Queue) -> list[object]:
    bodies = []
    while (message := queue.get(no_ack=True)) is not None:
        bodies.append(message.payload)
    return bodies


def test_higher_priorities_come_out_first(queue: Queue) -> None:
    for priority in (0, 9, 5, 10, 1):
        publish(queue, str(priority), priority=priority)
    assert drained(queue) == ["10", "9", "5", "1", "0"]


def test_messages_of_one_priority_come_out_in_the_order_they_went_in(queue: Queue) -> None:
    for number in range(20):
        publish(queue, str(number), priority=number % 2)
    odd, even = [str(n) for n in range(1, 20, 2)], [str(n) for n in range(0, 20, 2)]
    assert drained(queue) == [*odd, *even]


def test_a_message_without_a_priority_has_the_lowest(queue: Queue) -> None:
    publish(queue, "none")
    publish(queue, "one", priority=1)
    publish(queue, "zero", priority=0)
    assert drained(queue) == ["one", "none", "zero"]


def test_bodies_are_never_compared(queue: Queue) -> None:
    with Connection(URL) as connection:
        for body in ({"a": 1}, {"b": 2}):
            connection.Producer().publish(body, exchange="", routing_key=queue.name, priority=3)
    assert drained(queue) == [{"a": 1}, {"b": 2}]


def test_a_rejected_message_comes_back_at_its_priority(queue: Queue) -> None:
    publish(queue, "low", priority=1)
    publish(queue, "high", priority=8)
    message = queue.get()
    assert message is not None
    message.reject(requeue=True)
    assert drained(queue) == ["high", "low"]


def test_two_connections_of_a_process_share_the_queues(queue: Queue) -> None:
    publish(queue, "hello")
    with Connection(URL) as other:
        message = queue.bind(other.default_channel).get(no_ack=True)
    assert message is not None
    assert message.payload == "hello"


def test_a_purge_empties_the_queue(queue: Queue) -> None:
    publish(queue, "gone", priority=4)
    assert queue.purge() == 1
    assert drained(queue) == []
