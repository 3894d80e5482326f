"""Schedules that were settled while the store's clock stood far ahead, and are silent until it gets there again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from portico_celery.ports.schedule_store import ScheduleState

# Clocks differ by less, and so does a clock that is put right by those who look after it.
_MOST = timedelta(minutes=5)
_MOST_TOLD = 20


def is_ahead(settled_until: datetime, now: datetime) -> bool:
    """Whether that is further ahead than it could be, had the clock been right."""
    return settled_until - now > _MOST


def settled_ahead(states: Iterable[ScheduleState], now: datetime) -> dict[str, datetime]:
    """Return until when schedules are silent, by name, in order."""
    found = {state.name: state.settled_until for state in states if is_ahead(state.settled_until, now)}
    return dict(sorted(found.items()))


def about_settled_ahead(found: Mapping[str, datetime]) -> dict[str, Any]:
    """Say for the log which are silent, till when, and what to do; of very many, the first."""
    return {
        "count": len(found),
        "silent_until": {name: found[name].isoformat() for name in list(found)[:_MOST_TOLD]},
        "reason": "they were settled while the job store's clock was ahead, and make no jobs until then",
        "remedy": "wait, or let them count from now on: celery -A <app> portico schedules restart <name>",
    }
