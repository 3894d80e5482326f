"""The publishing connection: how messages leave that travel together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from kombu import Connection, Exchange, Queue

from portico_celery import PorticoCelery
from portico_celery.adapters.celery.broker_link import BrokerLink
from portico_celery.adapters.celery.knock import KnockMessage, knock_message
from portico_celery.ports.job import Job
from portico_celery.ports.job_store import Knock
from tests.waiting import eventually


@pytest.fixture
def app(amqp_url: str) -> Iterator[Celery]:
    with Celery("client", broker=amqp_url, set_as_current=False) as app:
        portico = PorticoCelery(app, store="memory://")
        yield app
        portico.close()


@contextmanager
def a_link(app: Celery, queue: Queue) -> Iterator[BrokerLink]:
    link = BrokerLink(app)
    try:
        link.open()
        link.ensure_queue(queue.name)
        yield link
    finally:
        link.close()


@pytest.fixture
def link(app: Celery, queue: Queue) -> Iterator[BrokerLink]:
    with a_link(app, queue) as link:
        yield link


@pytest.fixture
def queue(amqp_url: str, queue_name: str) -> Iterator[Queue]:
    with Connection(amqp_url) as connection:
        yield Queue(queue_name, channel=connection.default_channel)


@pytest.fixture
def events(app: Celery, queue: Queue) -> Iterator[Exchange]:
    """The exchange that task-sent events go to, an own one; it is not there yet."""
    exchange = Exchange(f"{queue.name}-events", "topic", channel=queue.channel)
    app.conf.update(task_send_sent_event=True, event_exchange=exchange.name)
    yield exchange
    exchange.delete()


def message(queue_name: str) -> KnockMessage:
    job = Job(id=uuid4(), job_type="email.send", queue_name=queue_name, payload={})
    return knock_message(Knock(job=job), redact=())


def depth(queue: Queue) -> int:
    declared: Any = queue.queue_declare(passive=True)
    return int(declared.message_count)


def confirmed(link: BrokerLink) -> bool:
    link.attend()
    return not link.unconfirmed


def test_messages_of_one_journey_leave_together_when_it_ends(link: BrokerLink, queue: Queue) -> None:
    transport: Any = link._connection.connection.transport
    write, writes = transport._write, list[bytes]()

    def noted(written: bytes) -> None:
        writes.append(written)
        write(written)

    transport._write = noted
    with link.one_journey(3):
        for _ in range(3):
            link.publish(message(queue.name))
        assert writes == []

    assert len(writes) == 1
    eventually(lambda: confirmed(link), describe="the confirmations")
    assert depth(queue) == 3


def test_of_a_journey_that_breaks_off_nothing_is_sent_and_all_is_unconfirmed(link: BrokerLink, queue: Queue) -> None:
    with suppress(ZeroDivisionError), link.one_journey(2):
        link.publish(message(queue.name))
        raise ZeroDivisionError

    assert len(link.unconfirmed) == 1
    # What comes after it, on the same connection, comes alone.
    after = message(queue.name)
    link.publish(after)
    first = eventually(queue.get, describe="the message after it")
    assert first is not None
    assert first.properties["message_id"] == str(after.job_id)


def test_a_message_that_travels_alone_leaves_at_once(link: BrokerLink, queue: Queue) -> None:
    with link.one_journey(1):
        link.publish(message(queue.name))
        eventually(lambda: depth(queue) == 1, describe="the message")


def test_the_first_journey_of_a_connection_may_tell_celery_of_its_messages(
    app: Celery, queue: Queue, events: Exchange
) -> None:
    events.declare()
    told = Queue(f"{queue.name}-told", events, "task.#", channel=queue.channel, auto_delete=True)
    told.declare()

    with a_link(app, queue) as link:
        with link.one_journey(3):
            for _ in range(3):
                link.publish(message(queue.name))
        eventually(lambda: confirmed(link), describe="the confirmations")
        eventually(lambda: depth(told) == 3, describe="the events")

    told.delete()


def test_who_may_send_no_events_knocks_all_the_same(
    app: Celery, queue: Queue, events: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    Exchange(events.name, "fanout", channel=queue.channel).declare()

    with a_link(app, queue) as link:
        with link.one_journey(2):
            for _ in range(2):
                link.publish(message(queue.name))
        eventually(lambda: confirmed(link), describe="the confirmations")

    assert caplog.text.count("task_sent_events_refused") == 1


def test_events_that_are_refused_later_cost_no_knock(
    app: Celery, queue: Queue, events: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    with a_link(app, queue) as link:
        events.delete()
        for _ in range(3):
            link.publish(message(queue.name))
        eventually(lambda: confirmed(link), describe="the confirmations")
        eventually(lambda: link.attend() or "task_sent_events_refused" in caplog.text, describe="the warning")
        link.publish(message(queue.name))
        eventually(lambda: confirmed(link), describe="the last confirmation")

    assert depth(queue) == 4
    assert caplog.text.count("task_sent_events_refused") == 1
