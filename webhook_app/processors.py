"""Keeping each process of a server to one processor, where there is a process for each.

The threads of a Python process take turns by one lock. On one processor a thread that has sent something goes on at
once; spread over several, it hands the lock to a thread on another one, which has to be woken, and waits for its own
next turn. `make bench-webhook` shows what that costs.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable

from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)


def allowed_processors() -> list[int]:
    """Return the processors that this process may run on; none where the system does not let us choose."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def processor_for(allowed: list[int], *, workers: int, taken: Iterable[int | None]) -> int | None:
    """Return the processor for one more of so many processes, or None where the system should choose.

    With fewer processes than processors it should: several servers on one machine would crowd on the first ones.
    ``taken`` is what the others have been given.
    """
    if len(allowed) < 2 or workers < len(allowed):
        return None
    crowd = Counter(taken)
    return min(allowed, key=lambda processor: crowd[processor])


def keep_to(processor: int | None) -> None:
    """Run this process, and the threads that it starts from now on, on one processor; on any, where it is None."""
    if processor is None:
        return
    try:
        os.sched_setaffinity(0, {processor})
    except OSError as error:
        # Where a container's security profile forbids it, the system goes on choosing.
        logger.warning("processor_not_chosen", processor=processor, error=str(error))
