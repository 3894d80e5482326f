"""Waiting for a condition that sends no event. The only place in the tests that polls."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

INTERVAL = 0.02


def eventually(predicate: Callable[[], T], timeout: float = 30.0, describe: str | Callable[[], str] = "") -> T:
    """Return the predicate's first true value; fail after ``timeout`` seconds.

    ``describe`` says what was waited for; a callable is asked when it failed, and can tell how things stand then.
    """
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > deadline:
            awaited = describe if isinstance(describe, str) else describe()
            raise AssertionError(f"not within {timeout} s (last value: {value!r}): {awaited or repr(predicate)}")
        time.sleep(INTERVAL)  # what is waited for is in another process, which has no way to wake us
    return value
