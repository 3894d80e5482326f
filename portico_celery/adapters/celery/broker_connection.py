"""Connections of our own to the broker. None of them waits for ever for a broker that has fallen silent."""

from __future__ import annotations

import select
import ssl
import time
from typing import Any

from celery import Celery
from kombu import Connection

HEARTBEAT_SECONDS = 30
# Who has not answered for this long is taken for dead.
_SOCKET_SECONDS = 5.0
_DRAIN_SECONDS = 0.001


def for_publishing(app: Celery, **amqp_options: Any) -> Connection:
    """Return a connection, not opened yet; ``amqp_options`` are transport options where the broker speaks AMQP."""
    connection = app.connection_for_write(heartbeat=HEARTBEAT_SECONDS, connect_timeout=_SOCKET_SECONDS)
    return _bounded(connection, amqp_options)


def for_fetching(app: Celery) -> Connection:
    """Return a connection, not opened yet."""
    return _bounded(app.connection_for_read(heartbeat=HEARTBEAT_SECONDS, connect_timeout=_SOCKET_SECONDS), {})


def connect(connection: Connection) -> None:
    """Open a connection to the first of its brokers that answers; each is tried once. Raises OperationalError.

    kombu's own ``connect`` tries two, and the next connection begins at the first again.
    """
    others = max(0, len(connection.alt) - 1)
    connection.ensure_connection(max_retries=others, interval_start=0, interval_step=0)


def is_amqp(connection: Connection) -> bool:
    """Whether the broker is one that declares queues with arguments and refuses other ones."""
    return bool(connection.transport.driver_type == "amqp")


def bound_waits(connection: Connection) -> None:
    """Have a Redis noticed that has fallen silent, where the app does not say when: kombu would wait for ever.

    RabbitMQ has heartbeats. To be called before the connection is opened.
    """
    if connection.transport.driver_type == "redis":
        waits = {"socket_timeout": _SOCKET_SECONDS, "socket_connect_timeout": _SOCKET_SECONDS}
        connection.transport_options = {**waits, **(connection.transport_options or {})}


def _bounded(connection: Connection, amqp_options: dict[str, Any]) -> Connection:
    bound_waits(connection)
    if is_amqp(connection):
        waits = {"read_timeout": _SOCKET_SECONDS, "write_timeout": _SOCKET_SECONDS}
        connection.transport_options = {**(connection.transport_options or {}), **waits, **amqp_options}
    return connection


def drain(connection: Connection) -> None:
    """Take in all that has come, without waiting for more."""
    try:
        while _has_news(connection.connection.sock):
            connection.drain_events(timeout=_DRAIN_SECONDS)
    except TimeoutError:  # a heartbeat, say, after which nothing came
        return


def _has_news(connected: Any) -> bool:
    if isinstance(connected, ssl.SSLSocket) and connected.pending():
        return True
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    return bool(poll.poll(0))


class Heartbeats:
    """Keeps a connection alive, called now and then in the thread that it belongs to."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._next = 0.0

    def keep_alive(self) -> None:
        """Send a heartbeat when it is time. Raises the transport's error where none has come for too long."""
        now = time.monotonic()
        if now >= self._next:
            self._connection.heartbeat_check()
            self._next = now + HEARTBEAT_SECONDS / 4
