"""The I/O thread carries what waits together in one call, and lets nobody suffer for another's fault."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager

import pytest

from portico_celery.adapters.celery import io_thread
from portico_celery.adapters.celery.io_thread import IOThread
from portico_celery.adapters.job_store.memory_store import MemoryJobStore
from portico_celery.exceptions import StoreUnavailable
from portico_celery.ports.job_store import JobStore
from portico_celery.utils.logging import fields_of
from tests.waiting import eventually

SECONDS = 10.0
# Of a thread whose callers wait too long: enough for those who don't, on a busy machine.
PATIENCE = 0.8


@pytest.fixture
def io() -> Iterator[IOThread]:
    thread = IOThread(MemoryJobStore(), name="io-under-test")
    yield thread
    thread.close()


@contextmanager
def busy(io: IOThread, ending: Exception | None = None) -> Iterator[None]:
    """Keep the thread in one call for the length of the block, at whose end the call ends as told."""
    entered, leave = threading.Event(), threading.Event()

    def hold(_store: JobStore) -> None:
        entered.set()
        assert leave.wait(SECONDS)
        if ending is not None:
            raise ending

    held = io.call(hold)
    assert entered.wait(SECONDS)
    try:
        yield
    finally:
        leave.set()
        if ending is None:
            held.result(SECONDS)
        else:
            with pytest.raises(type(ending)):
                held.result(SECONDS)


class Doubling:
    """A plural call that notes what it was given; ``refuses`` is an item that it can't take."""

    def __init__(self, refuses: int | None = None, error: type[Exception] = ValueError) -> None:
        self.calls: list[list[int]] = []
        self._refuses = refuses
        self._error = error

    def __call__(self, _store: JobStore, items: list[int]) -> list[int]:
        self.calls.append(list(items))
        if self._refuses in items:
            raise self._error(f"refused {self._refuses}")
        return [item * 2 for item in items]


def error_of(future: Future[list[int]]) -> BaseException | None:
    return future.exception(SECONDS)


class TestBatching:
    """What waits together travels together."""

    def test_what_gathered_meanwhile_is_one_call_and_everybody_gets_his_own_answers(self, io: IOThread) -> None:
        double = Doubling()
        with busy(io):
            futures = [io.call_many(double, [number, number + 100]) for number in range(50)]
        assert [future.result(SECONDS) for future in futures] == [[2 * n, 2 * n + 200] for n in range(50)]
        assert double.calls == [[item for number in range(50) for item in (number, number + 100)]]

    def test_calls_of_different_kinds_travel_apart(self, io: IOThread) -> None:
        one, other = Doubling(), Doubling()
        with busy(io):
            futures = [io.call_many(call, [number]) for number, call in enumerate((one, other, one, other))]
        assert [future.result(SECONDS) for future in futures] == [[0], [2], [4], [6]]
        assert (one.calls, other.calls) == ([[0, 2]], [[1, 3]])

    def test_one_call_has_a_greatest_size_and_the_rest_follows_in_order(self, io: IOThread) -> None:
        double = Doubling()
        with busy(io):
            futures = [io.call_many(double, [number]) for number in range(600)]
        assert [future.result(SECONDS) for future in futures] == [[2 * number] for number in range(600)]
        assert [item for call in double.calls for item in call] == list(range(600))
        assert 1 < len(double.calls) < 10

    def test_all_calls_are_made_in_one_thread(self, io: IOThread) -> None:
        def in_thread(_store: JobStore) -> int:
            return threading.get_ident()

        threads = {io.call(in_thread).result(SECONDS) for _ in range(20)}
        assert len(threads) == 1
        assert threads != {threading.get_ident()}

    def test_the_store_itself_is_what_is_called(self) -> None:
        store = MemoryJobStore()
        thread = IOThread(store, name="io-under-test")
        assert thread.call(lambda given: given).result(SECONDS) is store
        thread.close()


class TestFailures:
    """A fault is its owner's alone."""

    def test_an_item_that_is_refused_fails_its_own_caller_only(self, io: IOThread) -> None:
        double = Doubling(refuses=3)
        with busy(io):
            futures = [io.call_many(double, [number]) for number in range(6)]
        assert str(error_of(futures.pop(3))) == "refused 3"
        assert [future.result(SECONDS) for future in futures] == [[0], [2], [4], [8], [10]]

    def test_the_thread_goes_on_after_a_fault(self, io: IOThread) -> None:
        assert isinstance(error_of(io.call_many(Doubling(refuses=1), [1])), ValueError)
        assert io.call_many(Doubling(), [1]).result(SECONDS) == [2]

    def test_a_store_that_is_away_fails_all_that_travelled_together_after_one_call(self, io: IOThread) -> None:
        double = Doubling(refuses=3, error=StoreUnavailable)
        with busy(io):
            futures = [io.call_many(double, [number]) for number in range(6)]
        assert all(isinstance(error_of(future), StoreUnavailable) for future in futures)
        assert len(double.calls) == 1

    def test_who_has_waited_too_long_when_his_turn_comes_is_told_so_and_asks_nothing(self) -> None:
        thread = IOThread(MemoryJobStore(), name="io-under-test", patience=PATIENCE)
        double = Doubling()
        with busy(thread):
            late = thread.call_many(double, [1])
            began = time.monotonic()
            eventually(lambda: time.monotonic() - began > PATIENCE)
            in_time = thread.call_many(double, [2])
        error = error_of(late)
        assert isinstance(error, StoreUnavailable)
        assert f"within {PATIENCE} s" in str(error)
        assert in_time.result(SECONDS) == [4]
        assert double.calls == [[2]]
        thread.close()

    def test_so_is_who_waits_for_others_that_are_asked_with_him(self) -> None:
        thread = IOThread(MemoryJobStore(), name="io-under-test", patience=PATIENCE)

        def slowly(_store: JobStore) -> list[int]:
            began = time.monotonic()
            eventually(lambda: time.monotonic() - began > PATIENCE)
            return [1]

        with busy(thread):
            first, second = thread.call(slowly), thread.call(slowly)
        assert first.result(SECONDS) == [1]
        assert isinstance(error_of(second), StoreUnavailable)
        thread.close()

    def test_a_store_that_is_away_fails_at_once_all_that_waited_meanwhile(self, io: IOThread) -> None:
        double = Doubling()
        with busy(io, ending=StoreUnavailable("away")):
            futures = [io.call_many(double, [number]) for number in range(3)]
        assert all(isinstance(error_of(future), StoreUnavailable) for future in futures)
        assert double.calls == []

    def test_a_store_that_is_away_is_asked_once_however_many_kinds_of_calls_wait(self, io: IOThread) -> None:
        asked = []

        def away(_store: JobStore) -> None:
            asked.append(1)
            raise StoreUnavailable("away")

        double = Doubling()
        with busy(io):
            singles = [io.call(away) for _ in range(10)]
            plural = io.call_many(double, [1])
        for single in singles:
            assert isinstance(single.exception(SECONDS), StoreUnavailable)
        assert isinstance(error_of(plural), StoreUnavailable)
        assert (len(asked), double.calls) == (1, [])

    def test_a_store_that_is_back_is_used_again(self, io: IOThread) -> None:
        assert isinstance(error_of(io.call_many(Doubling(refuses=1, error=StoreUnavailable), [1])), StoreUnavailable)
        assert io.call_many(Doubling(), [1]).result(SECONDS) == [2]

    def test_a_caller_that_gave_up_is_left_out(self, io: IOThread) -> None:
        double = Doubling()
        with busy(io):
            given_up, other = io.call_many(double, [1]), io.call_many(double, [2])
            assert given_up.cancel()
        assert other.result(SECONDS) == [4]
        assert double.calls == [[2]]

    def test_a_caller_that_gave_up_does_not_hinder_the_failing_of_others(self, io: IOThread) -> None:
        double = Doubling()
        with busy(io, ending=StoreUnavailable("away")):
            given_up, other = io.call_many(double, [1]), io.call_many(double, [2])
            assert given_up.cancel()
        assert isinstance(error_of(other), StoreUnavailable)
        with pytest.raises(CancelledError):
            given_up.result(SECONDS)

    def test_a_single_call_that_was_given_up_does_no_harm(self, io: IOThread, caplog: pytest.LogCaptureFixture) -> None:
        with busy(io):
            assert io.call(lambda _store: 1).cancel()
        assert io.call(lambda _store: 2).result(SECONDS) == 2
        assert caplog.records == []


class Turns:
    """Recurs in ``pause`` seconds, and notes each turn in a list that may be shared."""

    def __init__(self, pause: float, seen: list[str] | None = None, name: str = "") -> None:
        self.seen: list[str] = [] if seen is None else seen
        self._pause = pause
        self._name = name

    def __call__(self, _store: JobStore) -> float:
        self.seen.append(self._name)
        return self._pause


class TestRecurring:
    """What recurs goes on."""

    def test_it_is_run_again_when_it_says(self, io: IOThread) -> None:
        turns = Turns(0.001)
        io.repeat(turns)
        eventually(lambda: len(turns.seen) >= 5, SECONDS, "five turns")

    def test_it_goes_on_after_an_error_of_its_own(self, io: IOThread) -> None:
        turns = []

        def stumbling(_store: JobStore) -> float:
            turns.append(1)
            if len(turns) == 1:
                raise ValueError("stumbled")
            return 0.001

        io.repeat(stumbling)
        eventually(lambda: len(turns) >= 3, SECONDS, "turns after the one that failed")

    def test_a_store_that_stays_away_is_told_of_once_and_so_is_its_coming_back(
        self, io: IOThread, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        caplog.set_level("INFO")
        monkeypatch.setattr(io_thread, "_PAUSE_SECONDS", 0.01)
        turns = 0

        def be_away_for_three_turns(_store: JobStore) -> float:
            nonlocal turns
            turns += 1
            if turns <= 3:
                raise StoreUnavailable("away")
            return 0.01

        io.repeat(be_away_for_three_turns)
        eventually(lambda: turns >= 6, SECONDS)
        events = [fields["event"] for record in caplog.records if (fields := fields_of(record)) is not None]
        assert events == ["store_unavailable", "store_available_again"]

    def test_work_is_done_between_its_turns(self, io: IOThread) -> None:
        io.repeat(lambda _store: 0.0)
        assert io.call_many(Doubling(), [21]).result(SECONDS) == [42]

    def test_it_waits_for_its_first_turn(self, io: IOThread) -> None:
        seen: list[str] = []
        io.repeat(Turns(60.0, seen, "late"), after=0.2)
        io.repeat(Turns(60.0, seen, "early"))
        eventually(lambda: len(seen) == 2, SECONDS, "both turns")
        assert seen == ["early", "late"]

    def test_it_ends_when_it_is_told(self, io: IOThread) -> None:
        turns, others = Turns(0.001), Turns(0.001)
        io.repeat(turns)
        eventually(lambda: turns.seen, SECONDS, "a first turn")
        io.cease(turns)
        io.call(lambda _store: None).result(SECONDS)
        io.call(lambda _store: None).result(SECONDS)  # a turn that had begun is over
        seen = len(turns.seen)
        io.repeat(others)
        eventually(lambda: len(others.seen) > 20, SECONDS, "time for more turns")
        assert len(turns.seen) == seen


class TestClosing:
    """Closing loses nothing that was given before, and promises nothing after."""

    def test_what_waits_is_done_first(self, io: IOThread) -> None:
        double = Doubling()
        closer = threading.Thread(target=io.close)
        with busy(io):
            future = io.call_many(double, [1])
            closer.start()
        assert future.result(SECONDS) == [2]
        closer.join(SECONDS)
        assert not closer.is_alive()

    def test_what_comes_later_is_refused(self, io: IOThread) -> None:
        io.call_many(Doubling(), [1]).result(SECONDS)
        io.close()
        double = Doubling()
        assert isinstance(error_of(io.call_many(double, [2])), StoreUnavailable)
        assert double.calls == []

    def test_it_ends_the_thread(self) -> None:
        thread = IOThread(MemoryJobStore(), name="io-that-ends")
        thread.call(lambda _store: None).result(SECONDS)
        assert names("io-that-ends")
        thread.close()
        assert not names("io-that-ends")

    def test_it_is_idempotent_and_needs_no_earlier_use(self) -> None:
        thread = IOThread(MemoryJobStore(), name="io-unused")
        thread.close()
        thread.close()
        assert not names("io-unused")

    def test_a_call_in_the_thread_may_close_it(self, io: IOThread) -> None:
        io.call(lambda _store: io.close()).result(SECONDS)
        assert isinstance(error_of(io.call_many(Doubling(), [1])), StoreUnavailable)

    def test_nothing_starts_before_it_is_used(self) -> None:
        IOThread(MemoryJobStore(), name="io-idle")
        assert not names("io-idle")


def names(name: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == name]


# What mypy is to hold the doubles to.
_: Callable[[JobStore, list[int]], list[int]] = Doubling()
