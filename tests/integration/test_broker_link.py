"""The publishing connection: how messages leave that travel together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from kombu import Connection, Queue

from portico_celery import PorticoCelery
from portico_celery.adapters.celery.broker_link import BrokerLink
from portico_celery.adapters.celery.knock import KnockMessage, knock_message
from portico_celery.ports.job import Job
from portico_celery.ports.job_store import Knock
from tests.waiting import eventually


@pytest.fixture
def link(amqp_url: str, queue_name: str) -> Iterator[BrokerLink]:
    with Celery("client", broker=amqp_url, set_as_current=False) as app:
        portico = PorticoCelery(app, store="memory://")
        link = BrokerLink(app)
        link.open()
        link.ensure_queue(queue_name)
        yield link
        link.close()
        portico.close()


@pytest.fixture
def queue(amqp_url: str, queue_name: str) -> Iterator[Queue]:
    with Connection(amqp_url) as connection:
        yield Queue(queue_name, channel=connection.default_channel)


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

    lost = link.unconfirmed
    link.publish(message(queue.name))  # the connection is as it was
    eventually(lambda: depth(queue) == 1, describe="the message after it")
    assert [len(lost), link.unconfirmed[:1] == lost] == [1, True]


def test_a_message_that_travels_alone_leaves_at_once(link: BrokerLink, queue: Queue) -> None:
    with link.one_journey(1):
        link.publish(message(queue.name))
        eventually(lambda: depth(queue) == 1, describe="the message")
