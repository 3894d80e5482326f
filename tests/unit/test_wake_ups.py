"""Waking a thread that waits: none of it is lost, and none of it done twice."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from portico_celery.adapters.celery.wake_ups import WakeUps


@pytest.fixture
def wake_ups() -> Iterator[WakeUps]:
    made = WakeUps()
    yield made
    made.close()


def test_many_wake_ups_before_a_wait_end_that_one_only(wake_ups: WakeUps) -> None:
    for _ in range(100):
        wake_ups.send()

    with wake_ups.selector() as selector:
        wake_ups.wait(selector, 5.0)
        assert not selector.select(0)

        wake_ups.send()
        assert selector.select(0)


def test_many_wake_ups_write_to_the_pipe_once(wake_ups: WakeUps) -> None:
    for _ in range(100):
        wake_ups.send()

    assert len(wake_ups._woken.recv(4096)) == 1


def test_one_that_a_signal_breaks_off_does_not_silence_those_after_it(
    wake_ups: WakeUps, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BrokenOff:
        def send(self, _data: bytes) -> int:
            raise SoftTimeLimitExceeded

    with monkeypatch.context() as patched:
        patched.setattr(wake_ups, "_wake_up", BrokenOff())
        with pytest.raises(SoftTimeLimitExceeded):
            wake_ups.send()
    wake_ups.send()

    with wake_ups.selector() as selector:
        assert selector.select(5.0)


def test_what_any_thread_puts_before_it_wakes_the_waiting_one_is_seen(wake_ups: WakeUps) -> None:
    put: deque[int] = deque()
    seen: list[int] = []

    def put_many() -> None:
        for number in range(2_000):
            put.append(number)
            wake_ups.send()

    threads = [threading.Thread(target=put_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    with wake_ups.selector() as selector:
        while len(seen) < 8_000:
            before = len(seen)
            while put:
                seen.append(put.popleft())
            if len(seen) == before:
                # A wake-up that was lost would let this wait come to its end.
                assert selector.select(30.0), "nobody woke the waiting thread"
                wake_ups.wait(selector)
    for thread in threads:
        thread.join()

    assert sorted(seen) == sorted(list(range(2_000)) * 4)
