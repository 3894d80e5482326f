"""How long a call of the store may take in all, where it is more than one exchange with the server."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_wanted_by: ContextVar[float] = ContextVar("wanted_by", default=math.inf)


@contextmanager
def answered_within(seconds: float) -> Iterator[None]:
    """Give all that the server is asked inside the block this time together."""
    token = _wanted_by.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _wanted_by.reset(token)


def wanted_by() -> float:
    """Return the moment (of the monotonic clock) by which the call under way wants its answer; infinity for none."""
    return _wanted_by.get()
