"""The thread that fetches messages for callers of ``dequeue``: one for a process, with one connection."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable

from kombu import Message

from portico_celery.adapters.celery.pull.message_source import MessageSource, TakeUp
from portico_celery.adapters.celery.pull.pull_call import PullCall
from portico_celery.adapters.celery.wake_ups import WakeUps
from portico_celery.lifecycle import RetryPolicy
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

_RECONNECT = RetryPolicy(base_delay=0.2, max_delay=5.0, jitter=0.0)

Errand = Callable[[MessageSource], None]


class PullThread:
    """Serves calls. It connects for the first of them, stays connected, and reconnects only while somebody waits.

    ``take_up`` is called in the thread, with each message that was fetched and the call that it was fetched for.
    """

    def __init__(self, make_source: Callable[[TakeUp], MessageSource], take_up: TakeUp) -> None:
        self._make_source = make_source
        self._take_up = take_up
        self._lock = threading.Lock()
        self._calls: dict[PullCall, None] = {}
        self._connected = False
        #: Who has come and gone since the source was there.
        self._changes: deque[Errand] = deque()
        self._errands: deque[Errand] = deque()
        self._later: list[tuple[float, Errand]] = []
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._failures = 0
        self._wake_ups = WakeUps()

    def add(self, call: PullCall) -> None:
        """Fetch a message for the call, until ``remove``."""
        with self._lock:
            if self._stopping:
                call.answer(None)
                return
            self._calls[call] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="portico-pull", daemon=True)
                self._thread.start()
            self._tell(lambda source: source.want(call))

    def remove(self, call: PullCall) -> None:
        """The call has ended."""
        with self._lock:
            self._calls.pop(call, None)
            self._tell(lambda source: source.leave(call))

    def _tell(self, change: Errand) -> None:
        # With the lock. While there is no source nothing piles up: the next one is told who waits by then.
        if self._connected:
            self._changes.append(change)
        self._wake_ups.send()

    def others(self, queue_name: str) -> list[PullCall]:
        """Return who else waits for a message of the queue, and has none in hand."""
        with self._lock:
            calls = list(self._calls)
        return [call for call in calls if call.queue_name == queue_name and call.waits and not call.has_message]

    def settle(self, call: PullCall, message: Message, *, requeue: bool = False, after: float = 0.0) -> None:
        """Acknowledge or requeue a message that was taken up, from any thread; ``after`` so many seconds."""
        self.do_later(after, lambda source: source.settle(call, message, requeue=requeue))

    def do_later(self, seconds: float, errand: Errand) -> None:
        """Do something in the thread, in so many seconds."""
        if seconds <= 0:
            self._send(errand)
            return
        at = time.monotonic() + seconds
        self._send(lambda _source: self._later.append((at, errand)))

    def close(self, timeout: float = 2.0) -> None:
        """End the thread; the broker gives to others what is in hand. Whoever waits for a message is told None."""
        with self._lock:
            self._stopping = True
        self._wake_ups.send()
        if self._thread is not None and self._thread is not threading.current_thread():
            # One that waits for a broker which does not answer is left to itself: it keeps no process from its end.
            self._thread.join(timeout)
        if self._thread is None or not self._thread.is_alive():
            self._wake_ups.close()
        for call in list(self._calls):
            if not call.has_message:  # else its claim is under way, and answers
                call.answer(None)

    def _send(self, errand: Errand) -> None:
        self._errands.append(errand)
        self._wake_ups.send()

    def _run(self) -> None:
        while self._somebody_waits():
            try:
                self._serve_once()
            except Exception as error:  # noqa: BLE001  # py-amqp's faults on a broken connection are of many types
                self._note_outage(error)
            self._sleep(_RECONNECT.delay(self._failures - 1, 0.0) if self._failures else 0.0)

    def _serve_once(self) -> None:
        source = self._make_source(self._take_up)
        try:
            self._serve(source)
        finally:
            with self._lock:
                self._connected = False
                self._changes.clear()
            with contextlib.suppress(Exception):  # of a connection that is broken already
                source.close()

    def _somebody_waits(self) -> bool:
        with self._wake_ups.selector() as selector:
            while not self._stopping and not self._calls:
                self._wake_ups.wait(selector)
        return not self._stopping

    def _serve(self, source: MessageSource) -> None:
        source.open()
        if self._failures:
            logger.info("broker_reachable_again", waiting=len(self._calls))
        self._failures = 0
        with self._lock:
            self._connected = True
            waiting = list(self._calls)
        for call in waiting:
            source.want(call)
        with self._wake_ups.selector(source.socket) as selector:
            while not self._stopping:
                self._run_errands(source)
                source.attend()
                if not self._errands and not self._changes:
                    self._wake_ups.wait(selector, min(source.pause, self._seconds_to_next()))
        for call in list(self._calls):
            source.leave(call)

    def _run_errands(self, source: MessageSource) -> None:
        now = time.monotonic()
        ripe = [errand for at, errand in self._later if at <= now]
        self._later = [(at, errand) for at, errand in self._later if at > now]
        self._errands.extend(ripe)
        for errands in (self._changes, self._errands):
            while errands:
                errands.popleft()(source)

    def _seconds_to_next(self) -> float:
        soonest = min((at for at, _errand in self._later), default=float("inf"))
        return max(0.0, soonest - time.monotonic())

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        with self._wake_ups.selector() as selector:
            while not self._stopping and (left := until - time.monotonic()) > 0:
                self._wake_ups.wait(selector, left)

    def _note_outage(self, error: Exception) -> None:
        if not self._failures:
            logger.warning("broker_unreachable", error=repr(error), hint="whoever waits for a job waits on")
        self._failures += 1
