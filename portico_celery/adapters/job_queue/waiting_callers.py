"""Callers that wait for a job, in any event loop of any thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(eq=False)
class Waiter:
    """One caller; ``wake_up`` may be called from any thread."""

    queue_name: str
    loop: asyncio.AbstractEventLoop
    woken: asyncio.Future[None]

    def wake_up(self) -> bool:
        """Have it look again; False where its event loop is gone."""
        try:
            self.loop.call_soon_threadsafe(_settle, self.woken)
        except RuntimeError:
            return False
        return True


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class WaitingCallers:
    """Who waits, the longest first. Not safe by itself: its owner holds a lock around each call."""

    def __init__(self) -> None:
        self._by_queue: dict[str, deque[Waiter]] = {}

    def add(self, queue_name: str) -> Waiter:
        """Have the caller wait, whose event loop runs here."""
        loop = asyncio.get_running_loop()
        waiter = Waiter(queue_name, loop, loop.create_future())
        self._by_queue.setdefault(queue_name, deque()).append(waiter)
        return waiter

    def remove(self, waiter: Waiter) -> bool:
        """Let it wait no more. False where it has been told to look already."""
        waiting = self._by_queue.get(waiter.queue_name, deque())
        if waiter not in waiting:
            return False
        waiting.remove(waiter)
        if not waiting:
            del self._by_queue[waiter.queue_name]
        return True

    def wake_one(self, queue_name: str) -> None:
        """Tell the one that has waited longest."""
        for waiter in self._waiting(queue_name):
            self.remove(waiter)
            if waiter.wake_up():
                return

    def wake_all(self) -> None:
        """Tell everybody."""
        for queue_name in list(self._by_queue):
            for waiter in self._waiting(queue_name):
                self.remove(waiter)
                waiter.wake_up()

    def _waiting(self, queue_name: str) -> Iterable[Waiter]:
        return tuple(self._by_queue.get(queue_name, ()))
