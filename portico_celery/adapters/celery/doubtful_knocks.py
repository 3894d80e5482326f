"""Knocks that were sent before, and may have been lost: how many of them to send again."""

from __future__ import annotations

from dataclasses import dataclass

from portico_celery.adapters.celery.knock import KnockMessage

# Of the messages that seem to wait in a queue, one in so many is sent again to see.
_PROBED_PART = 1_000


@dataclass(frozen=True, kw_only=True)
class DoubtfulKnocks:
    """Messages of a queue, of which ``expected`` should be there, these among them.

    A queue's messages may be others', which hide that ours are not among them: each ``probe_seconds`` a few are sent
    again though none seems to be missing.
    """

    queue_name: str
    messages: tuple[KnockMessage, ...]
    expected: int
    probe_seconds: float


class Doubts:
    """Decides by how many messages are there, and remembers when it has last sent some to see."""

    def __init__(self) -> None:
        self._next_probe: dict[str, float] = {}

    def missing(self, doubtful: DoubtfulKnocks, *, there: int, now: float) -> tuple[KnockMessage, ...]:
        """Return the messages to send again, where so many of their queue are there or on their way."""
        count = max(self._probe(doubtful, now), doubtful.expected - there)
        return doubtful.messages[:count]

    def _probe(self, doubtful: DoubtfulKnocks, now: float) -> int:
        # Not at each sweep: jobs that came one by one fall due one by one, and all would be sent again and again.
        if now < self._next_probe.get(doubtful.queue_name, now):
            return 0
        self._next_probe[doubtful.queue_name] = now + doubtful.probe_seconds
        return 1 + doubtful.expected // _PROBED_PART
