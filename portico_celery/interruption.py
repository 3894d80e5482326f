"""Asking one run of a handler to stop, from any thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: What a handler has to clean up in, once it was stopped (seconds); after that its job is given back under its hands.
CLEANUP_SECONDS = 1.0


class Interrupted(Exception):  # control flow between runner and handler, never a job's error
    """The run was asked to stop before its handler came to an end."""


class Interruption:
    """Stops a handler at its next ``await``; one that never awaits can't be stopped.

    It may be requested before the handler starts, which then does not start, and after it has ended, when it does
    nothing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requested = False
        self._scope: asyncio.Timeout | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def requested(self) -> bool:
        """Whether the run was asked to stop."""
        return self._requested

    def request(self) -> None:
        """Ask the run to stop."""
        with self._lock:
            self._requested = True
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._expire, self._scope)

    @contextmanager
    def ends(self, scope: asyncio.Timeout) -> Iterator[None]:
        """Have the request end ``scope``, the time limit around the handler. Raises Interrupted if it has come."""
        with self._lock:
            if self._requested:
                raise Interrupted
            self._scope, self._loop = scope, asyncio.get_running_loop()
        try:
            yield
        finally:
            with self._lock:
                self._scope = self._loop = None

    def _expire(self, scope: asyncio.Timeout | None) -> None:
        # In the loop's own thread, where the scope can't end meanwhile; it may have ended before.
        if scope is not None and scope is self._scope and not scope.expired():
            scope.reschedule(asyncio.get_running_loop().time())
