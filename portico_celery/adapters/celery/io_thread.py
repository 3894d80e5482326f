"""The thread that speaks to the job store for a whole process.

Event loops, Flask views and Celery's own threads hand it work and get a future. What waits together travels together:
all creates, claims or finishes that have gathered are one call of the store. It also does what recurs: renewing leases
and sweeping.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from portico_celery.exceptions import StoreUnavailable
from portico_celery.ports.job_store import JobStore
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

T = TypeVar("T")
Item = TypeVar("Item")

_MOST_AT_ONCE = 256
# Until something that recurs is tried again, when it failed (seconds).
_PAUSE_SECONDS = 1.0

Many = Callable[[JobStore, list[Any]], list[Any]]
"""A call of the store's that takes many items and answers for each."""

Recurring = Callable[[JobStore], float]
"""Something that recurs; it returns in how many seconds it wants its next turn."""


@dataclass
class _Work:
    call: Many
    items: list[Any]
    asked_at: float
    future: Future[list[Any]] = field(default_factory=Future)


@dataclass
class _Turn:
    run: Recurring
    at: float

    @property
    def name(self) -> str:
        """What it does, for the log."""
        return str(getattr(self.run, "__qualname__", self.run))


class IOThread:
    """Runs calls of one JobStore in one thread, started by the first of them.

    Who has waited for longer than ``patience`` (seconds) when his turn comes is told so, instead of holding up others
    for an answer that he has hardly any use for.
    """

    def __init__(self, store: JobStore, *, name: str, patience: float = math.inf) -> None:
        self._store = store
        self._patience = patience
        self._name = name
        self._wake = threading.Condition()
        self._work: deque[_Work] = deque()
        self._turns: list[_Turn] = []
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._away = False
        self._between_calls = threading.RLock()

    def call(self, function: Callable[[JobStore], T]) -> Future[T]:
        """Run one call of the store."""
        answer: Future[T] = Future()

        def alone(store: JobStore, _items: list[Any]) -> list[Any]:
            return [function(store)]

        def hand_over(done: Future[list[Any]]) -> None:
            error = CancelledError() if done.cancelled() else done.exception()
            if not answer.set_running_or_notify_cancel():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(done.result()[0])

        self.call_many(alone, [None]).add_done_callback(hand_over)
        return answer

    def call_many(self, call: Callable[[JobStore, list[Item]], list[T]], items: Sequence[Item]) -> Future[list[T]]:
        """Run a plural call. Items of several callers of the same ``call`` travel together; the order is kept."""
        work = _Work(call=cast("Many", call), items=list(items), asked_at=time.monotonic())
        with self._wake:
            if self._stopping:
                work.future.set_exception(StoreUnavailable("this process is closing its job store"))
                return cast("Future[list[T]]", work.future)
            self._work.append(work)
            self._ensure_started()
            self._wake.notify()
        return cast("Future[list[T]]", work.future)

    @property
    def closing(self) -> bool:
        """Whether it takes no more work."""
        return self._stopping

    def repeat(self, run: Recurring, *, after: float = 0.0) -> None:
        """Run something in ``after`` seconds, and again whenever it says."""
        with self._wake:
            self._turns.append(_Turn(run=run, at=time.monotonic() + after))
            self._ensure_started()
            self._wake.notify()

    def cease(self, run: Recurring) -> None:
        """Stop repeating it."""
        with self._wake:
            self._turns = [turn for turn in self._turns if turn.run != run]

    def hold(self) -> None:
        """Wait until no call of the store is under way, and let none begin before ``go_on``, in the same thread."""
        self._between_calls.acquire()

    def go_on(self) -> None:
        """End ``hold``."""
        self._between_calls.release()

    def close(self, timeout: float = 5.0) -> None:
        """Do the work that waits, then end the thread."""
        with self._wake:
            self._stopping = True
            self._turns.clear()
            self._wake.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _ensure_started(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wait_for_work()
                if self._stopping and not self._work:
                    return
                batch = [self._work.popleft() for _ in range(min(len(self._work), _MOST_AT_ONCE))]
                ripe = [turn for turn in self._turns if turn.at <= time.monotonic()]
            with self._between_calls:
                self._do_all(batch)
                for turn in ripe:
                    self._take_turn(turn)

    def _wait_for_work(self) -> None:
        while not self._work and not self._stopping:
            now = time.monotonic()
            next_at = min((turn.at for turn in self._turns), default=None)
            if next_at is not None and next_at <= now:
                return
            self._wake.wait(None if next_at is None else next_at - now)

    def _do_all(self, batch: list[_Work]) -> None:
        # A caller that gave up meanwhile has cancelled its future.
        wanted = [work for work in batch if work.future.set_running_or_notify_cancel()]
        groups = _by_call(wanted)
        for index, group in enumerate(groups):
            try:
                self._do([work for work in group if not self._has_waited_too_long(work)])
            except StoreUnavailable as error:
                self._fail([work for rest in groups[index:] for work in rest], error)
                return

    def _has_waited_too_long(self, work: _Work) -> bool:
        if time.monotonic() - work.asked_at <= self._patience:
            return False
        why = f"nothing was asked of the job store within {self._patience:g} s: it is slow, or much is asked of it"
        work.future.set_exception(StoreUnavailable(f"{why}; try again"))
        return True

    def _do(self, group: list[_Work]) -> None:
        if not group:
            return
        try:
            answers = iter(group[0].call(self._store, [item for work in group for item in work.items]))
            for work in group:
                work.future.set_result([next(answers) for _ in work.items])
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  # handed on to whoever waits
            self._fail_alone(group, error)

    def _fail(self, batch: list[_Work], error: Exception) -> None:
        # All that waited meanwhile hears of it too: nobody waits for a store that is away longer than one call takes.
        with self._wake:
            waiting = list(self._work)
            self._work.clear()
        for work in [*batch, *(work for work in waiting if work.future.set_running_or_notify_cancel())]:
            if not work.future.done():
                work.future.set_exception(error)

    def _fail_alone(self, group: list[_Work], error: Exception) -> None:
        # One item that the store refuses must not fail the others that happened to travel with it.
        if len(group) == 1:
            group[0].future.set_exception(error)
            return
        for work in group:
            try:
                work.future.set_result(work.call(self._store, work.items))
            except StoreUnavailable:
                raise
            except Exception as own_error:  # noqa: BLE001  # handed on to whoever waits
                work.future.set_exception(own_error)

    def _take_turn(self, turn: _Turn) -> None:
        pause = _PAUSE_SECONDS
        try:
            pause = turn.run(self._store)
            self._note_answer(None, turn)
        except StoreUnavailable as error:
            self._note_answer(error, turn)
            self._fail([], error)
        except Exception as error:  # what recurs must go on
            logger.error("recurring_work_failed", during=turn.name, error=repr(error), exc_info=error)
        turn.at = time.monotonic() + pause

    def _note_answer(self, error: StoreUnavailable | None, turn: _Turn) -> None:
        # Once, not each second: whoever needs the store meanwhile is told for himself.
        if error is not None and not self._away:
            logger.warning("store_unavailable", during=turn.name, error=str(error))
        elif error is None and self._away:
            logger.info("store_available_again")
        self._away = error is not None


def _by_call(batch: list[_Work]) -> list[list[_Work]]:
    groups: dict[Many, list[_Work]] = {}
    for work in batch:
        groups.setdefault(work.call, []).append(work)
    return list(groups.values())
