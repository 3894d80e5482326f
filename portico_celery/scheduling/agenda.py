"""Which schedule has to be looked at when. What is not due costs nothing."""

from __future__ import annotations

import heapq
import math
from collections import deque
from datetime import datetime


class Agenda:
    """Names by the moment at which to look at them, one moment for each, and those that have more to do at any time."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, str]] = []
        self._unfinished: deque[str] = deque()

    def put(self, name: str, at: datetime) -> None:
        """Look at a schedule at that moment."""
        heapq.heappush(self._heap, (at, name))

    def put_back(self, name: str) -> None:
        """Look at a schedule again when it is its turn among those that were put back."""
        self._unfinished.append(name)

    def take(self, now: datetime, *, most: int) -> list[str]:
        """Take out those whose moment has come, the first of them first, and one that was put back.

        One alone: those that are on time must not wait for all that catch up.
        """
        names: list[str] = []
        while len(names) < most and self._heap and self._heap[0][0] <= now:
            names.append(heapq.heappop(self._heap)[1])
        if self._unfinished:
            names.append(self._unfinished.popleft())
        return names

    def seconds_to_next(self, now: datetime) -> float:
        """Return how long nothing has to be looked at."""
        if self._unfinished:
            return 0.0
        return (self._heap[0][0] - now).total_seconds() if self._heap else math.inf
