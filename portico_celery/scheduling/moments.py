"""Moments that people name."""

from __future__ import annotations

from datetime import datetime

from portico_celery.exceptions import ValidationError
from portico_celery.ports.schedule import TIMES, in_utc


def as_utc(moment: datetime, name: str) -> datetime:
    """Return it in UTC, as which a naive one is taken. Raises ValidationError for one that is before 1970."""
    aware = in_utc(moment)
    if aware is None:
        raise ValidationError(f"{name} {TIMES}, not {moment}", argument=name)
    return aware
