"""Runs applications written against Portico's hexagonal job ports on Celery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portico_celery.compose import PorticoCelery

__all__ = ["PorticoCelery"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # On demand, so that importing a port does not import Celery.
    if name == "PorticoCelery":
        from portico_celery.compose import PorticoCelery

        return PorticoCelery
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
