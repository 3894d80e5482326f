"""The thread that publishes knocks in the background, so that creating a job never waits for the broker.

A knock that can't be delivered is kept and sent again; one that is dropped costs nothing but time, since its row stays
due and the sweep knocks again.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from celery import Celery

from portico_celery.adapters.celery.broker_link import BrokerLink, QueueRefused
from portico_celery.adapters.celery.knock import KnockMessage
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

# Beyond this many waiting knocks the newest are dropped: the sweep finds their rows when the broker is back.
MOST_WAITING = 10_000
_RECONNECT_SECONDS = 1.0
_BUSY_SECONDS = 0.5
_IDLE_SECONDS = 5.0
# A message that the broker refused is sent again after a pause, which doubles while it goes on refusing.
_SHORTEST_HOLD_SECONDS = 1.0
_LONGEST_HOLD_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class _Doubtful:
    """Messages of a queue that were sent before, and may have been lost."""

    queue_name: str
    messages: tuple[KnockMessage, ...]
    expected: int


class KnockPublisher:
    """Hands knocks to one publishing thread, which is started by the first of them."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._lock = threading.Condition()
        # By job, so that a job that is knocked for again meanwhile waits only once.
        self._waiting: OrderedDict[UUID, KnockMessage] = OrderedDict()
        self._in_hand: list[KnockMessage] = []
        self._doubtful: deque[_Doubtful] = deque()
        self._held: list[KnockMessage] = []
        self._held_until = 0.0
        self._held_pause = _SHORTEST_HOLD_SECONDS
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._reachable = True
        self._wake_up, self._woken = socket.socketpair()
        self._wake_up.setblocking(False)
        self._woken.setblocking(False)

    def publish(self, message: KnockMessage) -> None:
        """Have a message sent soon. Never blocks, and never raises."""
        with self._lock:
            if self._stopping or len(self._waiting) >= MOST_WAITING:
                return
            self._waiting[message.job_id] = message
            self._ensure_started()
        self._wake()

    def publish_missing(self, queue_name: str, messages: Sequence[KnockMessage], *, expected: int) -> None:
        """Have messages sent again, as far as fewer than ``expected`` are still in the queue. Never blocks."""
        with self._lock:
            if self._stopping:
                return
            self._doubtful.append(_Doubtful(queue_name=queue_name, messages=tuple(messages), expected=expected))
            self._ensure_started()
        self._wake()

    def _ensure_started(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="portico-publisher", daemon=True)
            self._thread.start()

    @property
    def behind(self) -> bool:
        """Whether knocks pile up because the broker does not take them."""
        return not self._reachable or len(self._waiting) >= MOST_WAITING

    def flush(self, timeout: float) -> bool:
        """Wait until all messages given so far are confirmed. False where that takes more than ``timeout`` seconds."""
        with self._lock:
            return self._lock.wait_for(self._is_empty, timeout)

    def close(self, timeout: float = 2.0) -> None:
        """Flush, then drop the connection."""
        if self._thread is not None:
            self.flush(timeout)
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
        self._wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
            if self._thread.is_alive():
                return  # it still looks at the socket
        self._wake_up.close()
        self._woken.close()

    def _is_empty(self) -> bool:
        return not self._waiting and not self._in_hand and not self._doubtful and not self._held

    def _wake(self) -> None:
        # Where the pipe is full, so many wake-ups are under way that one more says nothing new; or it is closed.
        with contextlib.suppress(OSError):
            self._wake_up.send(b"\0")

    def _run(self) -> None:
        while not self._stopping:
            link = BrokerLink(self._app)
            try:
                self._serve(link)
            except Exception as error:  # noqa: BLE001  # py-amqp's faults on a broken connection are of many types
                self._give_back(link)
                self._note_outage(error)
            link.close()
            if not self._stopping:
                self._pause(_RECONNECT_SECONDS)

    def _serve(self, link: BrokerLink) -> None:
        link.open()
        self._note_recovery()
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            if link.socket is not None:
                selector.register(link.socket, selectors.EVENT_READ)
            while not self._stopping:
                self._resolve_doubts(link)
                self._send_what_waits(link)
                self._take_in(link)
                if not self._doubtful and not (self._waiting and link.room):
                    selector.select(_BUSY_SECONDS if link.unconfirmed or self._held else _IDLE_SECONDS)
                    self._clear_wake_ups()

    def _resolve_doubts(self, link: BrokerLink) -> None:
        while self._doubtful:
            doubtful = self._doubtful[0]
            there = link.depth(doubtful.queue_name)
            with self._lock:
                on_their_way = [*self._waiting.values(), *link.unconfirmed]
                there += sum(message.queue_name == doubtful.queue_name for message in on_their_way)
                # At least one, the longest due: other messages may be there, which hide that ours is not.
                missing = max(1, doubtful.expected - there)
                for message in doubtful.messages[:missing]:
                    self._waiting.setdefault(message.job_id, message)
                self._doubtful.popleft()

    def _send_what_waits(self, link: BrokerLink) -> None:
        for _ in range(link.room):
            with self._lock:
                if not self._waiting:
                    return
                _job_id, message = self._waiting.popitem(last=False)
                self._in_hand.append(message)
            try:
                link.publish(message)
            except QueueRefused as error:
                logger.error("knock_refused", job_id=str(message.job_id), error=str(error))

    def _take_in(self, link: BrokerLink) -> None:
        again = link.attend()
        refused, link.refused = link.refused, []
        with self._lock:
            self._in_hand = link.unconfirmed
            for message in again:
                self._waiting.setdefault(message.job_id, message)
            if refused:
                self._hold_back(refused)
            if self._held and time.monotonic() >= self._held_until:
                for message in self._held:
                    self._waiting.setdefault(message.job_id, message)
                self._held = []
            if self._is_empty():
                self._held_pause = _SHORTEST_HOLD_SECONDS
                self._lock.notify_all()

    def _hold_back(self, refused: list[KnockMessage]) -> None:
        # To send them again at once would go round and round for as long as the queue is full.
        if not self._held:
            self._held_until = time.monotonic() + self._held_pause
            self._held_pause = min(self._held_pause * 2, _LONGEST_HOLD_SECONDS)
            logger.warning("knocks_refused", queue_name=refused[0].queue_name, hint="is the queue full?")
        self._held.extend(refused)

    def _give_back(self, link: BrokerLink) -> None:
        # What was not confirmed may or may not have arrived. Sent twice is harmless: the claim decides.
        with self._lock:
            for message in reversed(self._in_hand or link.unconfirmed):
                self._waiting.setdefault(message.job_id, message)
                self._waiting.move_to_end(message.job_id, last=False)
            self._in_hand = []

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        with self._lock:
            while not self._stopping and (left := until - time.monotonic()) > 0:
                self._lock.wait(left)

    def _clear_wake_ups(self) -> None:
        try:
            while self._woken.recv(4096):
                pass
        except BlockingIOError:
            return

    def _note_outage(self, error: Exception) -> None:
        if self._reachable:
            logger.warning("broker_unreachable", error=repr(error), hint="jobs are stored, and run once it is back")
        self._reachable = False

    def _note_recovery(self) -> None:
        if not self._reachable:
            logger.info("broker_reachable_again", waiting=len(self._waiting))
        self._reachable = True
