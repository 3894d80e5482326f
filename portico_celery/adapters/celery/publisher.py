"""The thread that publishes knocks in the background, so that creating a job never waits for the broker.

A knock that can't be delivered is kept and sent again; one that is dropped costs nothing but time, since its row stays
due and the sweep knocks again.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence

from celery import Celery

from portico_celery.adapters.celery.broker_link import BrokerLink, QueueRefused
from portico_celery.adapters.celery.doubtful_knocks import DoubtfulKnocks
from portico_celery.adapters.celery.knock import KnockMessage
from portico_celery.adapters.celery.outbox import Outbox
from portico_celery.adapters.celery.wake_ups import WakeUps
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

_RECONNECT_SECONDS = 1.0
# After knocks were sent, those that follow, and the broker's answers, gather for so long: each turn costs as much as
# some knocks. A knock that comes alone is sent at once.
_GATHER_SECONDS = 0.004
_BUSY_SECONDS = 0.5
_IDLE_SECONDS = 5.0
_SHORTEST_JOIN_SECONDS = 0.2


class KnockPublisher:
    """Hands knocks to one publishing thread, which is started by the first of them."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._outbox = Outbox()
        self._wake_ups = WakeUps()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._reachable = True

    def publish(self, message: KnockMessage) -> None:
        """Have a message sent soon. Never blocks, and never raises."""
        if self._started():
            self._outbox.put(message)
            self._wake_ups.send()

    def publish_missing(
        self, queue_name: str, messages: Sequence[KnockMessage], *, expected: int, probe_seconds: float
    ) -> None:
        """Have messages sent again, as far as fewer than ``expected`` are still in the queue. Never blocks.

        Each ``probe_seconds`` a few are sent again in any case, as DoubtfulKnocks says.
        """
        if self._started():
            self._outbox.put_in_doubt(
                DoubtfulKnocks(
                    queue_name=queue_name, messages=tuple(messages), expected=expected, probe_seconds=probe_seconds
                )
            )
            self._wake_ups.send()

    def _started(self) -> bool:
        """Start the thread if it has not been started. False once this is closing."""
        with self._lock:
            if self._thread is None and not self._stopping.is_set():
                self._import_transport()
                self._thread = threading.Thread(target=self._run, name="portico-publisher", daemon=True)
                self._thread.start()
            return not self._stopping.is_set()

    def _import_transport(self) -> None:
        # In the caller's thread: a script may end now, and while the interpreter does, redis-py can't be imported.
        with contextlib.suppress(Exception):  # the thread meets it again, and tells
            self._app.connection_for_write().get_transport_cls()

    @property
    def behind(self) -> bool:
        """Whether knocks pile up because the broker does not take them."""
        return not self._reachable or self._outbox.full

    def flush(self, timeout: float) -> bool:
        """Wait until all messages given so far are confirmed. False where that takes more than ``timeout`` seconds."""
        return self._outbox.wait_until_empty(timeout)

    def close(self, timeout: float = 2.0) -> None:
        """Flush, then drop the connection, in ``timeout`` seconds and a little."""
        ends_at = time.monotonic() + timeout
        if self._thread is not None:
            self.flush(timeout)
        with self._lock:
            self._stopping.set()
        self._wake_ups.send()
        if self._thread is not None and self._thread is not threading.current_thread():
            # One that waits for a broker which does not answer is left to itself: it keeps no process from its end.
            self._thread.join(max(_SHORTEST_JOIN_SECONDS, ends_at - time.monotonic()))
            if self._thread.is_alive():
                return  # it still looks at the pipe
        self._wake_ups.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._serve_once()
            except Exception as error:  # noqa: BLE001  # of a URL that can't work, or a client library that is missing
                self._note_outage(error)
            self._stopping.wait(_RECONNECT_SECONDS)

    def _serve_once(self) -> None:
        link = BrokerLink(self._app)
        try:
            self._serve(link)
        except Exception as error:  # noqa: BLE001  # py-amqp's faults on a broken connection are of many types
            self._outbox.give_back(link.unconfirmed)
            self._note_outage(error)
        link.close()

    def _serve(self, link: BrokerLink) -> None:
        link.open()
        self._note_recovery()
        with self._wake_ups.selector(link.socket) as selector:
            while not self._stopping.is_set():
                self._resolve_doubts(link)
                sent = self._send_what_waits(link)
                self._take_in_answers(link)
                if not self._has_more_to_do(link):
                    if sent:
                        time.sleep(_GATHER_SECONDS)
                    self._wake_ups.wait(selector, self._longest_wait(link))

    def _resolve_doubts(self, link: BrokerLink) -> None:
        while (doubtful := self._outbox.in_doubt) is not None:
            depth = link.depth(doubtful.queue_name)
            self._outbox.resolve(doubtful, link.unconfirmed, depth=depth, now=time.monotonic())

    def _send_what_waits(self, link: BrokerLink) -> bool:
        messages = [message for message in self._outbox.take(link.room) if self._has_queue(link, message)]
        with link.one_journey(len(messages)):
            for message in messages:
                link.publish(message)
        return bool(messages)

    def _has_queue(self, link: BrokerLink, message: KnockMessage) -> bool:
        try:
            link.ensure_queue(message.queue_name)
        except QueueRefused as error:
            logger.error("knock_refused", job_id=str(message.job_id), error=str(error))
            return False
        return True

    def _take_in_answers(self, link: BrokerLink) -> None:
        again = link.attend()
        refused, link.refused = link.refused, []
        self._outbox.note_answers(link.unconfirmed, again=again, refused=refused, now=time.monotonic())

    def _has_more_to_do(self, link: BrokerLink) -> bool:
        return self._outbox.in_doubt is not None or (self._outbox.waiting > 0 and link.room > 0)

    def _longest_wait(self, link: BrokerLink) -> float:
        return _BUSY_SECONDS if link.unconfirmed or self._outbox.has_held else _IDLE_SECONDS

    def _note_outage(self, error: Exception) -> None:
        if self._reachable:
            logger.warning("broker_unreachable", error=repr(error), hint="jobs are stored, and run once it is back")
        self._reachable = False

    def _note_recovery(self) -> None:
        if not self._reachable:
            logger.info("broker_reachable_again", waiting=self._outbox.waiting)
        self._reachable = True
