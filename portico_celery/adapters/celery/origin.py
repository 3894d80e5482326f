"""Where a message came from, in a job's terms: its queue, and how urgent it is there.

A message's routing key need not be the name of a queue, and a low number is urgent on one broker and not on another.
Only the consumer knows both, so that it notes them on each message that comes, over whatever a client has written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery
from kombu import Connection, Message, Queue

from portico_celery.adapters.celery import topology

#: The key of ``delivery_info`` under which it is noted.
ORIGIN = "portico"


def note_origin(message: Message, connection: Connection, queue_name: str) -> None:
    """Note from which queue of which broker a message came."""
    priority = topology.job_priority(connection, (message.properties or {}).get("priority"))
    message.delivery_info[ORIGIN] = {"queue": queue_name, "priority": priority}


def origin_of(message: Message) -> Mapping[str, Any] | None:
    """Return what was noted."""
    origin: Mapping[str, Any] | None = message.delivery_info.get(ORIGIN)
    return origin


class _NotingQueue:
    """A queue of a consumer, whose messages say that they are from it."""

    def __init__(self, queue: Queue, connection: Connection) -> None:
        self._queue = queue
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def consume(self, consumer_tag: str, callback: Callable[[Any], Any], **options: Any) -> Any:
        def on_message(message: Any) -> Any:
            note_origin(message, self._connection, self._queue.name)
            return callback(message)

        queue: Any = self._queue  # whose callback has two arguments, says the stub
        return queue.consume(consumer_tag, on_message, **options)


def install(app: Celery) -> None:
    """Have the consumers of an app's workers note the origin of each message."""

    class OriginConsumer(app.amqp.Consumer):  # type: ignore[name-defined,misc]  # the app may have its own class
        def _basic_consume(self, queue: Queue, *args: Any, **kwargs: Any) -> Any:
            return super()._basic_consume(_NotingQueue(queue, self.connection), *args, **kwargs)

    app.amqp.Consumer = OriginConsumer
