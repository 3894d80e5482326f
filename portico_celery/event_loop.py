"""One lasting event loop per process, and waiting for coroutines from synchronous code.

Handlers may keep clients that are bound to a loop (an HTTP session, a connection pool): every job of a process meets
the same loop, so they stay usable. ``asyncio.run`` for each job would break them.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Coroutine, Generator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class _ProcessLoop:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="portico-event-loop", daemon=True).start()
            return self._loop


_process_loop = _ProcessLoop()


def _start_afresh_after_fork() -> None:
    # The loop's thread did not survive the fork, and its lock may have been held.
    global _process_loop
    _process_loop = _ProcessLoop()


os.register_at_fork(after_in_child=_start_afresh_after_fork)


def submit(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Run the coroutine on this process's loop. Safe from any thread; don't block the loop's own on the result."""
    return asyncio.run_coroutine_threadsafe(coroutine, _process_loop.get())


class AwaitableFuture(Awaitable[T], Generic[T]):
    """Makes another thread's future awaitable in any event loop, and, under :func:`wait`, without one."""

    def __init__(self, future: Future[T]) -> None:
        self._future = future

    def __await__(self) -> Generator[Any, Any, T]:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            yield self._future
            return self._future.result()
        return (yield from asyncio.wrap_future(self._future, loop=loop).__await__())


async def pause(seconds: float) -> None:
    """Wait, in any event loop and, under :func:`wait`, without one: there it is the caller's thread that waits."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        time.sleep(seconds)  # noqa: ASYNC251  # there is no event loop that it could block
    else:
        await asyncio.sleep(seconds)


async def to_its_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine that is not to be broken off: a cancellation is raised once it has ended."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return await coroutine
    task = asyncio.ensure_future(coroutine)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError as cancelled:
        await asyncio.wait([task])
        raise cancelled from (None if task.cancelled() else task.exception())


def wait(coroutine: Coroutine[Any, Any, T], *, needs_event_loop: bool = True) -> T:
    """Run a coroutine to its end from synchronous code, and return its result.

    ``needs_event_loop=False`` promises that it awaits nothing but :class:`AwaitableFuture`; it is then driven right
    here, with no thread to cross. Raises RuntimeError in a thread that runs an event loop: there, await it.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        coroutine.close()
        raise RuntimeError(
            "this thread runs an event loop, which waiting here would block: await the asynchronous face instead"
        )
    return submit(coroutine).result() if needs_event_loop else _drive(coroutine)


def _drive(coroutine: Coroutine[Any, Any, T]) -> T:
    while True:
        try:
            pending = coroutine.send(None)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # StopIteration.value is Any by its nature
        _settled(pending)


def _settled(pending: Any) -> None:
    if not isinstance(pending, Future):
        raise TypeError(f"a coroutine declared to need no event loop awaited {pending!r}")
    # The result, or the error, or a cancellation, is raised inside the coroutine when it is resumed.
    with suppress(CancelledError):
        pending.exception()
