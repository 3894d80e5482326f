"""Knocks that the broker has refused, a queue being full, say: they are sent again after a pause."""

from __future__ import annotations

from collections.abc import Sequence

from portico_celery.adapters.celery.knock import KnockMessage
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

# The pause doubles while the broker goes on refusing.
_SHORTEST_HOLD_SECONDS = 1.0
_LONGEST_HOLD_SECONDS = 30.0


class HeldKnocks:
    """Holds them back: to send them again at once would go round and round for as long as the queue is full.

    Not thread-safe: the outbox guards it.
    """

    def __init__(self) -> None:
        self._held: list[KnockMessage] = []
        self._until = 0.0
        self._pause = _SHORTEST_HOLD_SECONDS

    def __bool__(self) -> bool:
        return bool(self._held)

    def hold(self, refused: Sequence[KnockMessage], now: float) -> None:
        """Hold back knocks that were refused; those that are held already are not held for longer."""
        if refused and not self._held:
            self._until = now + self._pause
            self._pause = min(self._pause * 2, _LONGEST_HOLD_SECONDS)
            logger.warning("knocks_refused", queue_name=refused[0].queue_name, hint="is the queue full?")
        self._held.extend(refused)

    def release(self, now: float) -> list[KnockMessage]:
        """Return the knocks whose pause is over."""
        if now < self._until:
            return []
        released, self._held = self._held, []
        return released

    def calm_down(self) -> None:
        """Begin with a short pause again: the broker has taken all."""
        self._pause = _SHORTEST_HOLD_SECONDS
