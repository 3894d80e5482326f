"""An in-process broker for trials: ``broker_url = "portico-memory://"``. Higher priorities come out first.

kombu's own memory transport, but with priority queues, and without a pause between looks at an empty queue.
"""

from __future__ import annotations

import heapq
import itertools
from queue import Queue
from typing import Any, ClassVar

from kombu.transport import TRANSPORT_ALIASES, memory

SCHEME = "portico-memory"

_POLLING_SECONDS = 0.01


class _PriorityQueue(Queue[Any]):
    """Oldest first among messages of one priority."""

    def _init(self, maxsize: int) -> None:  # noqa: ARG002  # queue.Queue's signature
        self.queue: Any = []
        self._order = itertools.count()

    def _put(self, item: Any) -> None:
        priority = int((item.get("properties") or {}).get("priority") or 0)
        heapq.heappush(self.queue, (-priority, next(self._order), item))

    def _get(self) -> Any:
        return heapq.heappop(self.queue)[2]


class Channel(memory.Channel):
    """Keeps one priority queue for each name, shared by the process."""

    queues: dict[str, Queue[Any]] = {}  # noqa: RUF012  # kombu's own attribute, shared by the class

    def _queue_for(self, queue: str) -> Queue[Any]:
        return self.queues.setdefault(queue, _PriorityQueue())

    def _new_queue(self, queue: str, **_kwargs: Any) -> None:
        self._queue_for(queue)

    def _put(self, queue: str, message: Any, **_kwargs: Any) -> None:
        self._queue_for(queue).put(message)


class Transport(memory.Transport):
    """The transport that ``portico-memory://`` names."""

    Channel = Channel
    polling_interval = _POLLING_SECONDS
    driver_type = "memory"
    # No host either: kombu would warn at every connection that the URL names none.
    default_connection_params: ClassVar[dict[str, Any]] = {}


def register() -> None:
    """Make the scheme known to kombu."""
    TRANSPORT_ALIASES.setdefault(SCHEME, f"{__name__}:Transport")
