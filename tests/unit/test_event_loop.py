"""One lasting event loop per process, and waiting for coroutines from synchronous code."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from textwrap import dedent
from typing import Any

import pytest

from portico_celery.event_loop import AwaitableFuture, submit, wait

ERROR = ConnectionError("the store is gone")


async def current_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def current_thread() -> threading.Thread:
    return threading.current_thread()


async def answer() -> int:
    return 42


async def fail() -> None:
    raise ERROR


@pytest.fixture
def elsewhere() -> Iterator[ThreadPoolExecutor]:
    """A thread that futures are settled by."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


class TestWaiting:
    @pytest.mark.parametrize("needed", [True, False])
    def test_the_result_or_the_error_is_that_of_the_coroutine(self, needed: bool) -> None:
        assert wait(answer(), needs_event_loop=needed) == 42
        with pytest.raises(ConnectionError) as caught:
            wait(fail(), needs_event_loop=needed)
        assert caught.value is ERROR

    def test_what_needs_no_loop_runs_right_here(self) -> None:
        assert wait(current_thread(), needs_event_loop=False) is threading.current_thread()

    def test_what_needs_a_loop_runs_in_the_thread_of_the_loop(self) -> None:
        assert wait(current_thread()) is not threading.current_thread()
        assert wait(current_thread()).daemon

    @pytest.mark.parametrize("needed", [True, False])
    def test_in_a_thread_that_runs_a_loop_it_is_an_error_at_once(self, needed: bool) -> None:
        coroutine = answer()

        async def view() -> int:
            return wait(coroutine, needs_event_loop=needed)

        with pytest.raises(RuntimeError, match="await the asynchronous face"):
            asyncio.run(view())
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED

    def test_in_the_process_loop_itself_it_is_an_error_too(self) -> None:
        async def nested() -> int:
            return wait(answer())

        with pytest.raises(RuntimeError, match="await the asynchronous face"):
            wait(nested())

    def test_a_false_promise_to_need_no_loop_is_shown(self) -> None:
        async def false_promise() -> None:
            await asyncio.sleep(0)

        with pytest.raises(TypeError, match="declared to need no event loop awaited None"):
            wait(false_promise(), needs_event_loop=False)


class TestTheLoop:
    def test_it_is_the_same_over_calls_and_threads(self) -> None:
        loop = wait(current_loop())
        assert wait(current_loop()) is loop
        assert submit(current_loop()).result(timeout=30) is loop
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lambda: wait(current_loop())).result(timeout=30) is loop

    def test_many_threads_that_come_first_get_one(self) -> None:
        # In a process of its own, where nobody has made the loop yet.
        report = in_a_new_process(
            """
            barrier = threading.Barrier(8)
            def first(_number):
                barrier.wait(30)
                return wait(current_loop())
            with ThreadPoolExecutor(8) as pool:
                loops = set(pool.map(first, range(8)))
            print(len(loops), sum(thread.name == "portico-event-loop" for thread in threading.enumerate()))
            """
        )
        assert report == "1 1"

    def test_what_is_bound_to_it_stays_usable(self) -> None:
        async def connect() -> asyncio.Queue[int]:
            client: asyncio.Queue[int] = asyncio.Queue()
            reader = asyncio.create_task(client.get())
            await asyncio.sleep(0)  # now the queue is bound to this loop
            client.put_nowait(1)
            await reader
            return client

        async def use(client: asyncio.Queue[int]) -> int:
            reader = asyncio.create_task(client.get())
            await asyncio.sleep(0)
            client.put_nowait(7)
            return await reader

        client = wait(connect())
        assert wait(use(client)) == 7

    def test_coroutines_run_beside_each_other(self) -> None:
        met: list[str] = []

        async def main(mine: asyncio.Event, other: asyncio.Event) -> None:
            mine.set()
            await other.wait()
            met.append("met")

        one, other = asyncio.Event(), asyncio.Event()
        first, second = submit(main(one, other)), submit(main(other, one))
        first.result(timeout=30)
        second.result(timeout=30)
        assert met == ["met", "met"]

    def test_a_forked_process_makes_its_own(self) -> None:
        report = in_a_new_process(
            """
            mine = wait(current_loop())
            if (child := os.fork()) == 0:
                signal.alarm(20)  # ends a child that waits for a loop which nobody runs
                loop = wait(current_loop())
                os._exit(0 if loop is not mine and loop is wait(current_loop()) else 1)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), wait(current_loop()) is mine)
            """
        )
        assert report == "0 True"

    def test_a_fork_while_the_loop_is_being_made_does_no_harm(self) -> None:
        report = in_a_new_process(
            """
            from portico_celery import event_loop
            with event_loop._process_loop._lock:  # as a thread that is just making the loop holds it
                if (child := os.fork()) == 0:
                    signal.alarm(20)
                    os._exit(0 if wait(answer()) == 42 else 1)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), wait(answer()))
            """
        )
        assert report == "0 42"


class TestAwaitableFutures:
    @pytest.mark.parametrize("needed", [True, False])
    def test_a_coroutine_may_await_many(self, elsewhere: ThreadPoolExecutor, needed: bool) -> None:
        async def add() -> int:
            return sum([await AwaitableFuture(elsewhere.submit(int, text)) for text in ("1", "2", "3")])

        assert wait(add(), needs_event_loop=needed) == 6

    @pytest.mark.parametrize("needed", [True, False])
    def test_an_error_is_raised_where_it_is_awaited(self, elsewhere: ThreadPoolExecutor, needed: bool) -> None:
        async def recover() -> str:
            try:
                await AwaitableFuture(elsewhere.submit(int, "seven"))
            except ValueError as error:
                return f"caught {type(error).__name__}"
            return "not raised"

        assert wait(recover(), needs_event_loop=needed) == "caught ValueError"

    @pytest.mark.parametrize("needed", [True, False])
    def test_a_cancelled_future_is_noticed_where_it_is_awaited(self, needed: bool) -> None:
        future: Future[int] = Future()
        future.cancel()
        left: list[str] = []

        async def leave() -> None:
            try:
                await AwaitableFuture(future)
            finally:
                left.append("cleaned up")

        with pytest.raises((futures.CancelledError, asyncio.CancelledError)):
            wait(leave(), needs_event_loop=needed)
        assert left == ["cleaned up"]

    def test_any_running_loop_may_await_one_without_being_blocked(self, elsewhere: ThreadPoolExecutor) -> None:
        async def main() -> Any:
            go_on = threading.Event()
            pending = asyncio.ensure_future(_awaited(elsewhere.submit(go_on.wait, 30)))
            await asyncio.sleep(0)  # a blocked loop would get no further
            go_on.set()
            return await pending

        assert asyncio.run(main()) is True

    def test_a_settled_future_needs_no_waiting(self) -> None:
        future: Future[int] = Future()
        future.set_result(7)
        assert wait(_awaited(future), needs_event_loop=False) == 7
        assert asyncio.run(_awaited(future)) == 7


async def _awaited(future: Future[Any]) -> Any:
    return await AwaitableFuture(future)


def in_a_new_process(body: str) -> str:
    """Run the body in a new process; what it printed."""
    script = dedent(
        """
        import asyncio, os, signal, threading
        from concurrent.futures import ThreadPoolExecutor
        from portico_celery.event_loop import wait

        async def current_loop():
            return asyncio.get_running_loop()

        async def answer():
            return 42
        """
    ) + dedent(body)
    # Newer Pythons warn of every fork of a process that has threads.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
