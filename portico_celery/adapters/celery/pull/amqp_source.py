"""Messages from RabbitMQ: each waiting caller is a consumer of its own, to which the broker gives one message."""

from __future__ import annotations

import itertools
import time
from functools import partial
from typing import Any

from amqp import spec
from celery import Celery
from kombu import Message

from portico_celery.adapters.celery import broker_connection
from portico_celery.adapters.celery.broker_connection import HEARTBEAT_SECONDS, Heartbeats
from portico_celery.adapters.celery.pull.message_source import MessageSource, TakeUp
from portico_celery.adapters.celery.pull.pull_call import PullCall
from portico_celery.exceptions import ValidationError
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

# Until a queue is tried again whose channel the broker has closed.
_PAUSE_SECONDS = 1.0
_SHORT_PAUSE_SECONDS = 0.1


class AMQPSource(MessageSource):
    """A channel for each queue, so that one which the broker closes ends no other's, and a consumer for each caller.

    The prefetch count of 1 is each consumer's own. A consumer is cancelled before its message is acknowledged, so that
    nothing is fetched for a caller that has gone.
    """

    def __init__(self, app: Celery, take_up: TakeUp) -> None:
        super().__init__(app, take_up)
        self._heartbeats = Heartbeats(self._connection)
        self._channels: dict[str, Any] = {}
        self._consumers: dict[PullCall, tuple[Any, str]] = {}
        self._numbers = itertools.count()
        #: Callers to want a message for again, and from when on.
        self._again: dict[PullCall, float] = {}

    @property
    def socket(self) -> Any:
        """The connection's."""
        connection: Any = self._connection.connection
        return connection.sock

    @property
    def pause(self) -> float:
        """Until the next heartbeat, or until a queue is tried again."""
        return _SHORT_PAUSE_SECONDS if self._again else HEARTBEAT_SECONDS / 4

    def want(self, call: PullCall) -> None:
        """Consume for the caller, or look whether there is anything."""
        if call.has_message or call in self._consumers or not call.waits:
            return
        self._again.pop(call, None)
        channel = self._channel(call)
        if channel is None:
            return
        if call.looks_once:
            self._look(channel, call)
        else:
            tag = f"portico-pull-{next(self._numbers)}"
            self._consumers[call] = channel, tag
            channel.basic_consume(
                call.queue_name,
                consumer_tag=tag,
                nowait=True,
                callback=partial(self._on_delivery, call),
                on_cancel=partial(self._on_cancel, call),
            )

    def _channel(self, call: PullCall) -> Any | None:
        name = call.queue_name
        try:
            if not self._ensure_queue(call):
                return None
            if name not in self._channels:
                channel: Any = self._connection.channel()
                channel.basic_qos(0, 1, False)
                self._channels[name] = channel
            return self._channels[name]
        except self._connection.channel_errors as error:
            if self._reopen_closed(error):
                self._try_again(call, _SHORT_PAUSE_SECONDS)
            else:
                call.refuse(ValidationError(f"the broker refused queue {name!r}: {error}"))
        return None

    def _look(self, channel: Any, call: PullCall) -> None:
        try:
            raw = channel.basic_get(call.queue_name)
        except self._connection.channel_errors as error:
            # The queue was deleted, say, and is made again.
            self._reopen_closed(error)
            self._try_again(call, _SHORT_PAUSE_SECONDS)
            return
        if raw is None:
            call.answer(None)
        else:
            self._hand_over(call, self._message(raw))

    def _cease(self, call: PullCall) -> None:
        """Cancel its consumer."""
        self._again.pop(call, None)
        channel, tag = self._consumers.pop(call, (None, ""))
        if channel is not None and channel.is_open:
            # Not waited for: until it is confirmed, what comes is given back by _on_delivery.
            channel.send_method(spec.Basic.Cancel, "sb", (tag, False))

    def attend(self) -> None:
        """Take in what has come, and keep the connection alive."""
        now = time.monotonic()
        for call in [call for call, at in self._again.items() if at <= now]:
            del self._again[call]
            self.want(call)
        self._drain()
        self._heartbeats.keep_alive()

    def _drain(self) -> None:
        try:
            broker_connection.drain(self._connection)
        except self._connection.channel_errors as error:
            if not self._reopen_closed(error):
                raise

    def _reopen_closed(self, error: BaseException) -> bool:
        """Have the callers of queues whose channel the broker has closed try again; False where there is none."""
        closed = [name for name, channel in self._channels.items() if not channel.is_open]
        for name in closed:
            logger.warning("pull_channel_closed", queue_name=name, error=str(error))
            self._ensured.discard(name)
            del self._channels[name]
        for call in [call for call in self._consumers if call.queue_name in closed]:
            self._try_again(call, _PAUSE_SECONDS)
        return bool(closed)

    def _try_again(self, call: PullCall, pause: float) -> None:
        self._consumers.pop(call, None)
        self._again[call] = time.monotonic() + pause

    def _on_cancel(self, call: PullCall, _tag: str) -> None:
        # By the broker: the queue was deleted.
        self._ensured.discard(call.queue_name)
        self._try_again(call, 0.0)

    def _on_delivery(self, call: PullCall, raw: Any) -> None:
        if call.waits and call in self._consumers and not call.has_message:
            self._hand_over(call, self._message(raw))
        else:
            raw.channel.basic_reject(raw.delivery_tag, requeue=True)

    def _message(self, raw: Any) -> Message:
        message: Message = raw.channel.message_to_python(raw)
        return message

    def _settle(self, message: Message, *, requeue: bool) -> None:
        channel: Any = message.channel
        if channel.is_open:  # else the broker has taken the message back
            super()._settle(message, requeue=requeue)
