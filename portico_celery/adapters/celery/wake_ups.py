"""Waking a thread that waits for its broker connection to become readable."""

from __future__ import annotations

import contextlib
import selectors
import socket
from typing import Any


class WakeUps:
    """A pipe that one thread waits on, beside its connection, and that any thread may write to."""

    def __init__(self) -> None:
        self._under_way = False
        self._wake_up, self._woken = socket.socketpair()
        self._wake_up.setblocking(False)
        self._woken.setblocking(False)

    def send(self) -> None:
        """Wake the thread up, now or when it next waits. Never blocks, and never raises."""
        # One that is under way says as much as many: whoever wakes up looks for what there is to do after it has come.
        if self._under_way:
            return
        try:
            self._under_way = True
            with contextlib.suppress(OSError):  # it is closed
                self._wake_up.send(b"\0")
        except BaseException:  # a signal's, such as that of Celery's soft time limit: perhaps no byte was sent
            self._under_way = False
            raise

    def selector(self, connection: Any | None = None) -> selectors.DefaultSelector:
        """Return what waits for a wake-up, or for something to read from the connection's socket. Close it."""
        selector = selectors.DefaultSelector()
        selector.register(self._woken, selectors.EVENT_READ)
        if connection is not None:
            selector.register(connection, selectors.EVENT_READ)
        return selector

    def wait(self, selector: selectors.DefaultSelector, seconds: float | None = None) -> None:
        """Wait, and forget the wake-ups that have come."""
        for key, _events in selector.select(seconds):
            if key.fileobj is self._woken:
                self._woken.recv(4096)
                self._under_way = False

    def close(self) -> None:
        """Close the pipe, which nobody may wait on any more."""
        self._wake_up.close()
        self._woken.close()
