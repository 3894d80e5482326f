"""How long a job waits: for its retry, for its next knock, for a worker that knows its type."""

from __future__ import annotations

from dataclasses import dataclass

#: Bounds of the wait for a worker that knows a job's type: often at first, when one may be a moment away.
SHORTEST_POSTPONEMENT = 2.0
LONGEST_POSTPONEMENT = 60.0
MAX_KNOCK_SECONDS = 3_600.0
MAX_KNOCK_DOUBLINGS = 16
# Beyond this exponent every delay is at its cap; it keeps 2 ** n from growing without bound.
_MAX_EXPONENT = 60


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff: ``base_delay * 2 ** retry_count`` seconds, at most ``max_delay``.

    ``jitter`` is the largest part of a delay that chance may take away, so that jobs that failed together do not all
    come back together.
    """

    base_delay: float = 2.0
    max_delay: float = 600.0
    jitter: float = 0.2

    def delay(self, retry_count: int, chance: float) -> float:
        """Return the wait in seconds before retry ``retry_count + 1``; ``chance`` is in [0, 1)."""
        full = min(self.max_delay, self.base_delay * 2.0 ** min(retry_count, _MAX_EXPONENT))
        return full * (1 - self.jitter * chance)


def postponement_delay(waited: float) -> float:
    """Return the wait before the next try of a job that no worker has had a handler for, for ``waited`` seconds."""
    return min(LONGEST_POSTPONEMENT, max(SHORTEST_POSTPONEMENT, waited))


def knock_delay(knocks: int, knock_seconds: float) -> float:
    """Return the wait before the next knock, in seconds: doubled by each knock so far, at most an hour."""
    return min(MAX_KNOCK_SECONDS, knock_seconds * 2.0 ** min(knocks, MAX_KNOCK_DOUBLINGS))
