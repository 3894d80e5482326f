"""The knocks that are not known to have arrived, from when they are given to when the broker has confirmed them."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from uuid import UUID

from portico_celery.adapters.celery.doubtful_knocks import DoubtfulKnocks, Doubts
from portico_celery.adapters.celery.held_knocks import HeldKnocks
from portico_celery.adapters.celery.knock import KnockMessage

# Beyond this many waiting knocks the newest are dropped: the sweep finds their rows when the broker is back.
MOST_WAITING = 10_000


class Outbox:
    """Any thread puts knocks in; the publishing thread takes them out, and says what became of them.

    A knock waits, is in hand until it is confirmed, or is held back because the broker refused it. Beside them stand
    those that were sent long ago and are in doubt.
    """

    def __init__(self) -> None:
        self._lock = threading.Condition()
        # By job, so that a job that is knocked for again meanwhile waits only once.
        self._waiting: OrderedDict[UUID, KnockMessage] = OrderedDict()
        self._in_hand: list[KnockMessage] = []
        self._held = HeldKnocks()
        self._doubtful: deque[DoubtfulKnocks] = deque()
        self._doubts = Doubts()

    @property
    def waiting(self) -> int:
        """How many knocks wait to be sent."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether a knock that is put in would be dropped."""
        return len(self._waiting) >= MOST_WAITING

    @property
    def in_doubt(self) -> DoubtfulKnocks | None:
        """The knocks that have been in doubt for longest."""
        with self._lock:
            return self._doubtful[0] if self._doubtful else None

    @property
    def has_held(self) -> bool:
        """Whether knocks are held back, to be sent in a while."""
        return bool(self._held)

    def put(self, message: KnockMessage) -> None:
        """Have a knock sent, unless the outbox is full."""
        with self._lock:
            if not self.full:
                self._waiting[message.job_id] = message

    def put_in_doubt(self, doubtful: DoubtfulKnocks) -> None:
        """Have it found out whether knocks were lost."""
        with self._lock:
            self._doubtful.append(doubtful)

    def take(self, most: int) -> list[KnockMessage]:
        """Take the knocks in hand that have waited for longest, at most so many."""
        with self._lock:
            taken = [self._waiting.popitem(last=False)[1] for _ in range(min(most, len(self._waiting)))]
            self._in_hand += taken
            return taken

    def resolve(self, doubtful: DoubtfulKnocks, unconfirmed: Sequence[KnockMessage], *, depth: int, now: float) -> None:
        """End the longest doubt, its queue being so deep: send again what is missing."""
        with self._lock:
            on_their_way = [*self._waiting.values(), *unconfirmed]
            there = depth + sum(message.queue_name == doubtful.queue_name for message in on_their_way)
            self._wait_again(self._doubts.missing(doubtful, there=there, now=now))
            self._doubtful.popleft()

    def note_answers(
        self,
        unconfirmed: list[KnockMessage],
        *,
        again: Sequence[KnockMessage],
        refused: Sequence[KnockMessage],
        now: float,
    ) -> None:
        """Note what is still unconfirmed, what has to be sent again, and what the broker has refused."""
        with self._lock:
            self._in_hand = unconfirmed
            self._wait_again(again)
            self._held.hold(refused, now)
            self._wait_again(self._held.release(now))
            if self._is_empty():
                self._held.calm_down()
                self._lock.notify_all()

    def give_back(self, unconfirmed: Sequence[KnockMessage]) -> None:
        """Put back what was in hand when the connection broke, to be sent first."""
        # What was not confirmed may or may not have arrived. Sent twice is harmless: the claim decides.
        with self._lock:
            for message in reversed(self._in_hand or unconfirmed):
                self._waiting.setdefault(message.job_id, message)
                self._waiting.move_to_end(message.job_id, last=False)
            self._in_hand = []

    def wait_until_empty(self, timeout: float) -> bool:
        """Wait until all has been confirmed. False where that takes more than ``timeout`` seconds."""
        with self._lock:
            return self._lock.wait_for(self._is_empty, timeout)

    def _is_empty(self) -> bool:
        return not self._waiting and not self._in_hand and not self._doubtful and not self._held

    def _wait_again(self, messages: Iterable[KnockMessage]) -> None:
        for message in messages:
            self._waiting.setdefault(message.job_id, message)
