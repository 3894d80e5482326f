"""Messages from Redis, or from this process's memory: who waits is served by short looks."""

from __future__ import annotations

import time
from typing import Any

from celery import Celery

from portico_celery.adapters.celery.pull.message_source import MessageSource, TakeUp
from portico_celery.adapters.celery.pull.pull_call import PullCall

_POLLING_SECONDS = 0.02
_IDLE_SECONDS = 60.0
# How often to bring back what others took and died with: a plain client's message lives in the broker alone.
_RESTORE_SECONDS = 10.0


class PollingSource(MessageSource):
    """Looks into each queue that somebody waits for, once for all who do."""

    def __init__(self, app: Celery, take_up: TakeUp) -> None:
        super().__init__(app, take_up)
        self._channel: Any = None
        # By queue, the longest waiting first.
        self._waiting: dict[str, dict[PullCall, None]] = {}
        self._next_restore = 0.0

    def open(self) -> None:
        """Connect."""
        super().open()
        self._channel = self._connection.channel()

    @property
    def socket(self) -> None:
        """None: messages have to be looked for."""
        return

    @property
    def pause(self) -> float:
        """A moment, where somebody waits."""
        return _POLLING_SECONDS if self._waiting else _IDLE_SECONDS

    def want(self, call: PullCall) -> None:
        """Have the caller served by the next looks."""
        if call.has_message or not call.waits or not self._ensure_queue(call):
            return
        self._waiting.setdefault(call.queue_name, {}).setdefault(call)

    def _cease(self, call: PullCall) -> None:
        """Serve it no more."""
        waiting = self._waiting.get(call.queue_name, {})
        waiting.pop(call, None)
        if not waiting:
            self._waiting.pop(call.queue_name, None)

    def attend(self) -> None:
        """Look once into each queue, or for as long as it has something for each who waits."""
        for name in list(self._waiting):
            while name in self._waiting and self._serve_one(name):
                pass
        now = time.monotonic()
        if self._waiting and now >= self._next_restore:
            self._channel.qos.restore_visible(interval=1)
            self._next_restore = now + _RESTORE_SECONDS

    def _serve_one(self, name: str) -> bool:
        call = next(iter(self._waiting[name]))
        if not call.waits:
            self.leave(call)
            return True
        message = self._channel.basic_get(name)
        if message is None:
            for waiting in [each for each in self._waiting[name] if each.looks_once]:
                self._cease(waiting)
                waiting.answer(None)
            return False
        self._cease(call)
        self._hand_over(call, message)
        return True
