"""Parking: a message that nobody can read is moved to a queue of its own, and is not lost."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.utils.log import get_logger
from kombu import Exchange, Message, Queue

from portico_celery.adapters.celery import broker_connection, topology

logger = get_logger(__name__)

#: Where a message goes that no worker can read, with its reason in a header, for an operator to look at.
PARKED_QUEUE = "portico.parked"
REASON_HEADER = "portico-parked-reason"

_MOST_REASON_CHARS = 500


def park(app: Celery, message: Message, reason: str) -> bool:
    """Publish a copy of the message to the queue of parked ones. False where that failed.

    The message is still to be acknowledged or, where parking failed, to be given back to its queue: after a pause, not
    in a tight circle, should it fail for good.
    """
    logger.error("message_parked queue=%s reason=%s", PARKED_QUEUE, reason[:_MOST_REASON_CHARS])
    try:
        _publish(app, message, reason)
    except Exception:
        # Left with the broker, which gives it to the next worker: loud, and not lost.
        logger.exception("parking failed: the message goes back to its queue")
        return False
    return True


def _publish(app: Celery, message: Message, reason: str) -> None:
    # On a connection of its own, where the message is acknowledged only after it has arrived elsewhere.
    with broker_connection.for_publishing(app, confirm_publish=True) as connection:
        broker_connection.connect(connection)
        options: dict[str, Any] = {"mandatory": True} if broker_connection.is_amqp(connection) else {}
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
