"""What hands over a broker's messages one by one, to callers that wait."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from celery import Celery
from kombu import Message

from portico_celery.adapters.celery import broker_connection, topology
from portico_celery.adapters.celery.origin import note_origin
from portico_celery.adapters.celery.pull.pull_call import PullCall
from portico_celery.exceptions import ValidationError

# For one caller. Others may be waiting for these.
_MOST_PASSED_OVER = 100

TakeUp = Callable[[PullCall, Message], None]
"""What is done with a message that was taken for a caller; it ends in ``settle``."""


class MessageSource(ABC):
    """One connection to the broker. It belongs to one thread; any error leaves it unusable: drop it, make another.

    A caller has at most one message in hand, and no message is fetched that nobody waits for.
    """

    def __init__(self, app: Celery, take_up: TakeUp) -> None:
        self._app = app
        self._connection = broker_connection.for_fetching(app)
        self._take_up = take_up
        #: Queues that are known to be there.
        self._ensured: set[str] = set()
        self._in_hand: set[Message] = set()
        self._passed_over: dict[PullCall, list[Message]] = {}

    def open(self) -> None:
        """Connect. Raises OperationalError."""
        broker_connection.connect(self._connection)

    def close(self) -> None:
        """Drop the connection without asking a broker who may not answer; it gives what is in hand to others."""
        self._connection.collect(socket_timeout=1)

    @property
    @abstractmethod
    def socket(self) -> Any | None:
        """The socket to watch, where messages come by themselves."""

    @property
    @abstractmethod
    def pause(self) -> float:
        """When to attend to it next (seconds), if nothing happens before."""

    @abstractmethod
    def want(self, call: PullCall) -> None:
        """Have a message for the caller. Wanting twice is wanting once."""

    @abstractmethod
    def _cease(self, call: PullCall) -> None:
        """Fetch nothing more for the caller, for now."""

    @abstractmethod
    def attend(self) -> None:
        """Take in what has come."""

    def leave(self, call: PullCall) -> None:
        """The caller waits no more."""
        self._cease(call)
        for message in self._taken_aside(call):
            self._settle(message, requeue=True)

    def pass_over(self, call: PullCall, message: Message) -> bool:
        """Keep aside what was fetched for a caller and is not for it, and have the next message for it.

        Were it given back at once, the caller would be given it again. True for the first of those that are aside:
        it is to be followed by ``bring_back``, when others behind have had a moment's time.
        """
        if not call.waits or message not in self._in_hand:
            self.settle(call, message, requeue=True)
            return False
        aside = self._passed_over.setdefault(call, [])
        aside.append(message)
        if len(aside) < _MOST_PASSED_OVER:
            self._cease(call)  # as a consumer whose prefetch count is used up
            call.has_message = False
            self.want(call)
        return len(aside) == 1

    def bring_back(self, call: PullCall) -> None:
        """Give back to their queue the messages that were passed over for a caller."""
        aside = self._taken_aside(call)
        for message in aside:
            self._settle(message, requeue=True)
        if len(aside) == _MOST_PASSED_OVER:
            call.has_message = False
            self._cease(call)
            self.want(call)

    def _taken_aside(self, call: PullCall) -> list[Message]:
        aside = self._passed_over.pop(call, [])
        self._in_hand.difference_update(aside)
        return aside

    def settle(self, call: PullCall, message: Message, *, requeue: bool = False) -> None:
        """Acknowledge a message, or give it back to its queue. A caller that still waits gets the next one."""
        call.has_message = False
        if not call.waits:
            # First of all, so that nothing comes in its place.
            self.leave(call)
        if message in self._in_hand:  # else it went with its connection
            self._in_hand.discard(message)
            self._settle(message, requeue=requeue)
        if call.waits:
            self.want(call)

    def _settle(self, message: Message, *, requeue: bool) -> None:
        if requeue:
            message.requeue()
        else:
            message.ack()

    def _ensure_queue(self, call: PullCall) -> bool:
        name = call.queue_name
        if name not in self._ensured:
            try:
                queue = topology.job_queue(self._app, name)
            except KeyError:
                why = f"this app makes no queues (task_create_missing_queues is off) and names no {name!r}"
                call.refuse(ValidationError(f"{why}: add it to task_queues"))
                return False
            topology.ensure_queue(self._connection, queue)
            self._ensured.add(name)
        return True

    def _hand_over(self, call: PullCall, message: Message) -> None:
        note_origin(message, self._connection, call.queue_name)
        self._in_hand.add(message)
        call.has_message = True
        self._take_up(call, message)
