"""Celery's task-sent events for knocks, by which Flower shows jobs that still wait: task_send_sent_event wants them."""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu import Connection, Producer

from portico_celery.adapters.celery.knock import KnockMessage
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)


class SentEvents:
    """Publishes events on a connection, by a channel of their own: nobody waits for their confirmation."""

    def __init__(self, app: Celery, connection: Connection) -> None:
        self._connection = connection
        # It only writes events; Celery's clients have theirs switched off in the same way. What it can't send it tells.
        self._dispatcher: Any = app.events.Dispatcher(connection, enabled=False, buffer_while_offline=False)
        self._producer: Producer | None = Producer(connection.channel(), auto_declare=False)
        try:
            # The dispatcher would do it with the first event, where nothing may be asked that the broker has to answer.
            self._producer.maybe_declare(self._dispatcher.exchange)
        except connection.channel_errors as error:
            self.give_up(error)

    @classmethod
    def of(cls, app: Celery, connection: Connection) -> SentEvents | None:
        """Return them where the app wants such events, as its own clients send them."""
        return cls(app, connection) if app.conf.task_send_sent_event else None

    @property
    def given_up(self) -> bool:
        """Whether no more events are sent by this connection."""
        return self._producer is None

    def tell(self, message: KnockMessage) -> None:
        """Say that a knock is sent. Raises the transport's own errors where the connection is lost."""
        if self._producer is None:
            return
        headers = message.headers
        fields = {
            "uuid": message.task_id,
            "root_id": headers.get("root_id"),
            "parent_id": headers.get("parent_id"),
            "name": headers["task"],
            "args": headers["argsrepr"],
            "kwargs": headers["kwargsrepr"],
            "retries": headers["retries"],
            "eta": None,
            "expires": None,
            "queue": message.queue_name,
            "exchange": "",
            "routing_key": message.queue_name,
        }
        try:
            self._dispatcher.publish("task-sent", fields, self._producer)
        except self._connection.channel_errors as error:
            self.give_up(error)

    def give_up(self, error: BaseException) -> None:
        """Send no more events: the broker takes none from this user, say. Jobs are none the worse for it."""
        logger.warning("task_sent_events_refused", error=str(error))
        self._producer = None
