"""What each job queue can do, in one place: the contract asks here, and the documentation shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_ANY = (-(2**31), -1, 0, 1, 2**31 - 1)


@dataclass(frozen=True, kw_only=True)
class Features:
    """What is left open by the port, or by a broker."""

    #: Priorities of which each is told apart from the next, in ascending order, and in words.
    priorities: tuple[int, ...]
    priorities_in_words: str
    #: Whether a job that is tried again comes before younger ones of its priority.
    retries_keep_their_place: bool
    #: When a job comes back that was taken and is never settled.
    comes_back: str
    #: Whether other processes, and other instances, may share the queue.
    shared: bool


MEMORY = Features(
    priorities=_ANY,
    priorities_in_words="any integer",
    retries_keep_their_place=True,
    comes_back="never: they end together",
    shared=False,
)
_PROCESS = "its process has ended and its lease is over"
_TEN = "0 to 10; beyond, as the nearest"
RABBITMQ = Features(
    priorities=(0, 1, 5, 9, 10),
    priorities_in_words=_TEN,
    retries_keep_their_place=False,
    comes_back=_PROCESS,
    shared=True,
)
# RabbitMQ 3 refuses x-max-priority on them; from 4 on they tell two priorities apart.
QUORUM = Features(
    priorities=(0,),
    priorities_in_words="none: the oldest first",
    retries_keep_their_place=False,
    comes_back=_PROCESS,
    shared=True,
)
REDIS = Features(
    priorities=(0, 3, 6, 9),
    priorities_in_words="four steps: 0, 1 to 3, 4 to 6, 7 and more",
    retries_keep_their_place=False,
    comes_back=_PROCESS,
    shared=True,
)
IN_PROCESS = Features(
    priorities=(0, 1, 5, 9, 10),
    priorities_in_words=_TEN,
    retries_keep_their_place=False,
    comes_back=_PROCESS,
    shared=False,
)

FEATURES: Mapping[str, Features] = {
    "MemoryJobQueueAdapter": MEMORY,
    "Celery on RabbitMQ": RABBITMQ,
    "... on its quorum queues": QUORUM,
    "Celery on Redis": REDIS,
    "Celery on `portico-memory://`": IN_PROCESS,
}


def table() -> str:
    """Return the table that the documentation shows."""
    rows = [
        ("", *FEATURES),
        ("---",) * (len(FEATURES) + 1),
        ("Priorities told apart", *(each.priorities_in_words for each in FEATURES.values())),
        ("A retried job keeps its place", *(_yes(each.retries_keep_their_place) for each in FEATURES.values())),
        ("A job never settled comes back when", *(each.comes_back for each in FEATURES.values())),
        ("Shared by processes", *(_yes(each.shared) for each in FEATURES.values())),
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
