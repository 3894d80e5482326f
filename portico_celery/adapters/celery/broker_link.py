"""One connection to the broker for publishing knocks, and what is known of their fate."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu import Producer

from portico_celery.adapters.celery import broker_connection, topology
from portico_celery.adapters.celery.broker_connection import Heartbeats
from portico_celery.adapters.celery.knock import KnockMessage
from portico_celery.adapters.celery.sent_events import SentEvents
from portico_celery.exceptions import PorticoError
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

# How many published messages may wait for the broker's confirmation.
WINDOW = 256
# A broker that has not confirmed for this long (seconds) is taken for dead, and the connection is dropped.
CONFIRM_SECONDS = 5.0


class QueueRefused(PorticoError):
    """The broker does not let this queue be declared; the connection is still good."""


class BrokerLink:
    """Publishes persistent messages straight to their queues, mandatory and confirmed where the broker can.

    It belongs to one thread. Any connection error leaves it unusable: drop it and make another.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self.blocked = False
        #: What the broker would not take, since a queue is full, say; the publisher takes it from here.
        self.refused: list[KnockMessage] = []
        self._unconfirmed: OrderedDict[int, tuple[KnockMessage, float]] = OrderedDict()
        self._returned: set[str] = set()
        self._again: list[KnockMessage] = []
        self._known_queues: set[str] = set()
        self._connection = broker_connection.for_publishing(
            app,
            # Confirms are collected here, a window at a time, not waited for one by one.
            confirm_publish=False,
            on_blocked=self._on_blocked,
            on_unblocked=self._on_unblocked,
        )
        self._confirms = broker_connection.is_amqp(self._connection)
        self._heartbeats = Heartbeats(self._connection)
        self._published = 0
        self._producer: Producer | None = None
        self._sent_events: SentEvents | None = None

    def open(self) -> None:
        """Connect. Raises OperationalError."""
        broker_connection.connect(self._connection)
        channel: Any = self._connection.default_channel
        if self._confirms:
            channel.confirm_select()
            channel.events["basic_ack"].add(self._on_ack)
            channel.events["basic_nack"].add(self._on_nack)
            channel.events["basic_return"].add(self._on_return)
            _stop_reading_before_each_message(self._connection.connection)
        self._producer = Producer(channel, auto_declare=False)
        self._sent_events = SentEvents.of(self._app, self._connection)

    @property
    def socket(self) -> Any | None:
        """The socket to watch for confirmations, where there are any."""
        return self._connection.connection.sock if self._confirms else None

    @property
    def room(self) -> int:
        """How many messages may be published now."""
        return 0 if self.blocked else WINDOW - len(self._unconfirmed)

    @property
    def unconfirmed(self) -> list[KnockMessage]:
        """The messages whose fate is unknown."""
        return [message for message, _at in self._unconfirmed.values()]

    def publish(self, message: KnockMessage) -> None:
        """Send one message to a queue that has been ensured; it is unconfirmed until the broker says otherwise."""
        if self._sent_events is not None:
            self._sent_events.tell(message)
        self._published += 1
        if self._confirms:
            self._unconfirmed[self._published] = (message, time.monotonic())
        self._opened().publish(
            message.body,
            exchange="",
            routing_key=message.queue_name,
            headers=message.headers,
            content_type="application/json",
            content_encoding="utf-8",
            priority=topology.broker_priority(self._connection, message.priority),
            delivery_mode=2,
            correlation_id=message.task_id,
            mandatory=self._confirms,
            message_id=str(message.job_id),
        )

    @contextmanager
    def one_journey(self, messages: int) -> Iterator[None]:
        """Have so many messages travel together: what is published meanwhile is on its way when this ends.

        Nothing that the broker has to answer may be asked meanwhile. Where it breaks off, nothing was sent, and the
        link has to be dropped.
        """
        if messages <= 1 or not self._confirms:
            yield
            return
        transport = self._connection.connection.transport
        written, write = bytearray(), transport._write  # nothing public stands between frame and socket
        transport._write = written.extend
        try:
            yield
        finally:
            transport._write = write
        # One write, which lets go of Python's lock once.
        transport.write(written)

    def depth(self, queue_name: str) -> int:
        """Return how many messages wait in a queue; those that a worker holds already are not among them."""
        return topology.depth(self._connection, queue_name)

    def _opened(self) -> Producer:
        if self._producer is None:
            raise RuntimeError("open() comes first")
        return self._producer

    def ensure_queue(self, name: str) -> None:
        """Have the queue declared where it has to be. Raises QueueRefused."""
        if name in self._known_queues:
            return
        try:
            topology.ensure_queue(self._connection, topology.job_queue(self._app, name))
        except KeyError as error:
            raise QueueRefused(
                f"this app makes no queues (task_create_missing_queues is off) and names no {name!r}: "
                "add it to task_queues"
            ) from error
        except self._connection.channel_errors as error:
            if not self._confirms:
                raise  # a Redis that is full refuses whatever it is asked
            raise QueueRefused(f"the broker refused queue {name!r}: {error}") from error
        self._known_queues.add(name)

    def attend(self) -> list[KnockMessage]:
        """Take in what the broker has sent, and keep the connection alive. Returns what has to be sent again."""
        if not self._confirms:
            return []
        try:
            broker_connection.drain(self._connection)
        except self._connection.channel_errors as error:
            # Only events are sent to what may be gone, or not for this user. Were it the other channel, it would
            # confirm nothing any more, and the link be dropped for that.
            if self._sent_events is None or self._sent_events.given_up:
                raise
            self._sent_events.give_up(error)
        self._heartbeats.keep_alive()
        self._refuse_silence(time.monotonic())
        again, self._again = self._again, []
        return again

    def close(self) -> None:
        """Drop the connection without asking the broker, who may not answer."""
        self._connection.collect(socket_timeout=1)

    def _refuse_silence(self, now: float) -> None:
        if self.blocked or not self._unconfirmed:
            return
        _message, published_at = next(iter(self._unconfirmed.values()))
        if now - published_at > CONFIRM_SECONDS:
            raise TimeoutError(f"the broker has confirmed nothing for {CONFIRM_SECONDS:.0f} s")

    def _settled(self, tag: int, multiple: bool) -> list[KnockMessage]:
        tags = [known for known in self._unconfirmed if known <= tag] if multiple else [tag]
        return [self._unconfirmed.pop(known)[0] for known in tags if known in self._unconfirmed]

    def _on_ack(self, tag: int, multiple: bool) -> None:
        for message in self._settled(tag, multiple):
            # A message that no queue took is returned first, and confirmed all the same.
            if str(message.job_id) in self._returned:
                self._returned.discard(str(message.job_id))
                self._known_queues.discard(message.queue_name)
                self._again.append(message)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self.refused.extend(self._settled(tag, multiple))

    def _on_return(self, _error: Exception, _exchange: str, _routing_key: str, message: Any) -> None:
        self._returned.add(message.properties.get("message_id"))

    def _on_blocked(self, reason: str) -> None:
        self.blocked = True
        logger.warning("broker_blocks_publishing", reason=reason)

    def _on_unblocked(self) -> None:
        self.blocked = False


def _stop_reading_before_each_message(amqp: Any) -> None:
    # With this capability py-amqp reads before each message it sends, which gives Python's lock away; attend() takes in
    # what has come, once for many messages. The broker, to which it was said at the start, still tells when it blocks.
    told = amqp.client_properties.get("capabilities", {})
    amqp.client_properties = {**amqp.client_properties, "capabilities": {**told, "connection.blocked": False}}
