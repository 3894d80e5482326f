"""Runs applications written against Portico's hexagonal job ports on Celery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portico_celery.compose import CronSchedule, PorticoCelery, ScheduleConfig

__all__ = ["CronSchedule", "PorticoCelery", "ScheduleConfig"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # On demand, so that importing a port does not import Celery.
    if name in __all__:
        from portico_celery import compose

        return getattr(compose, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
