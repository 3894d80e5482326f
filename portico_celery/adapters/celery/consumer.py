"""The worker's consumer: Celery's own, which finds its queues as they are and survives what Celery's would not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from amqp.exceptions import AMQPNotImplementedError, PreconditionFailed
from celery.utils.log import get_logger
from celery.worker.consumer import Consumer
from kombu import Connection, Exchange, Message, Queue

from portico_celery.adapters.celery import topology
from portico_celery.adapters.celery.task_message import fault_of

logger = get_logger(__name__)

#: Where a message goes that no worker can read, with its reason in a header, for an operator to look at.
PARKED_QUEUE = "portico.parked"
REASON_HEADER = "portico-parked-reason"

_MOST_REASON_CHARS = 500
_PAUSE_SECONDS = 1.0
_CONFIRMED = {"confirm_publish": True, "read_timeout": 5.0, "write_timeout": 5.0}


def _prefetch_for_each_queue(connection: Any) -> bool:  # noqa: ARG001  # kombu's signature
    return True


class PorticoConsumer(Consumer):
    """Celery 5.7's consumer, hardened.

    A malformed message ends a stock worker, and the next one, and the next; here it is parked. A queue that exists is
    not declared again with other arguments, which would end the worker too; nor does one that turns out to be a quorum
    queue, which knows no prefetch count for a whole channel. A channel that the broker closes, since a message waited
    in a busy worker for longer than consumer_timeout, is opened again. And a threads pool whose connection breaks in
    the middle of its jobs consumes again when it is back.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own_errors: tuple[type[BaseException], ...] = self.connection_errors  # type: ignore[has-type]  # not in the stubs
        self.connection_errors = (*own_errors, PreconditionFailed)
        self._prefetch_for_each_queue = False

    def connect(self) -> Connection:
        """Connect, and see which queues exist, before anything is declared."""
        connection = super().connect()
        if self._prefetch_for_each_queue:
            # What Celery asks to learn what its prefetch count may apply to.
            connection.transport.qos_semantics_matches_spec = _prefetch_for_each_queue  # type: ignore[method-assign]
        topology.adopt_existing(connection, self.app.amqp.queues.consume_from.values())
        return connection

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Reconnect; where the broker refused to consume from a quorum queue, in a way that it takes."""
        # An existing queue does not tell its type otherwise.
        if isinstance(exc, AMQPNotImplementedError) and "global qos" in str(exc):
            self._prefetch_for_each_queue = True
        super().on_connection_error_after_connected(exc)

    def _restore_prefetch_count_after_connection_restart(self, p: Any, *args: Any) -> None:
        # Celery does this in whatever thread acknowledges. Of a pool with threads that thread would then wait for the
        # broker's answer on the very socket that the main loop reads, and the two would stand still for ever.
        restore = super()._restore_prefetch_count_after_connection_restart  # type: ignore[misc]  # not in the stubs
        self.call_soon(restore, p, *args)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Message], Any]:
        """Return Celery's handler of messages, which now parks what it chokes on."""
        handle = super().create_task_handler(*args, **kwargs)

        def on_task_received(message: Message) -> Any:
            fault = fault_of(message)
            if fault is not None:
                return self._park(message, fault)
            try:
                return handle(message)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                if message.acknowledged:
                    raise
                return self._park(message, repr(error))

        return on_task_received

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        """Park a message whose body can't be read; Celery would acknowledge it, and it would be gone."""
        self._park(message, f"the body can't be decoded: {exc!r}")

    def on_unknown_message(self, body: Any, message: Message) -> None:  # noqa: ARG002  # Celery's signature
        """Park a message that is not a task."""
        self._park(message, "not a Celery task message")

    def on_invalid_task(self, body: Any, message: Message, exc: Exception) -> None:  # noqa: ARG002  # Celery's
        """Park a task message with invalid parts."""
        self._park(message, f"invalid task message: {exc!r}")

    def _park(self, message: Message, reason: str) -> None:
        logger.error("message_parked queue=%s reason=%s", PARKED_QUEUE, reason[:_MOST_REASON_CHARS])
        try:
            self._publish_parked(message, reason)
        except Exception:
            # Left with the broker, which gives it to the next worker: loud, and not lost.
            logger.exception("parking failed: the message goes back to its queue")
            # Not in a tight circle, should it fail for good.
            time.sleep(_PAUSE_SECONDS)
            message.reject_log_error(logger, self.connection_errors, requeue=True)
        else:
            message.ack_log_error(logger, self.connection_errors)

    def _publish_parked(self, message: Message, reason: str) -> None:
        # On a connection of its own, where the message is acknowledged only after it has arrived elsewhere.
        with self.app.connection_for_write() as connection:
            options: dict[str, Any] = {}
            if topology.is_amqp(connection):
                connection.transport_options = {**(connection.transport_options or {}), **_CONFIRMED}
                options["mandatory"] = True
            topology.ensure_queue(connection, Queue(PARKED_QUEUE, Exchange(""), routing_key=PARKED_QUEUE))
            connection.Producer(auto_declare=False).publish(
                message.body,
                exchange="",
                routing_key=PARKED_QUEUE,
                content_type=message.content_type or "application/octet-stream",
                content_encoding=message.content_encoding or "binary",
                headers={**(message.headers or {}), REASON_HEADER: reason[:_MOST_REASON_CHARS]},
                delivery_mode=2,
                retry=False,
                **options,
            )
