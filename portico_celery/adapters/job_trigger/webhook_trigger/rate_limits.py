"""How often callers may come: what is configured, and what the trigger asks of whatever counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol
from urllib.parse import urlsplit

from limits import parse_many

from portico_celery.exceptions import ConfigurationError

#: How a storage is written.
STORAGES = "memory:// or redis://[user:password@]host:port/number, with what is special in a password written as %XX"


@dataclass(frozen=True, kw_only=True)
class RateLimits:
    """Each limit is as Flask-Limiter reads it: ``100/minute``, ``5/second``. None is no limit.

    ``per_address`` counts before anything is verified, ``per_caller`` after (the caller of an API key, or a source),
    ``per_job_type`` each job. ``storage`` is ``memory://`` or ``redis://host:6379/0``.
    """

    per_address: str | None = None
    per_caller: str | None = None
    per_job_type: Mapping[str, str] = field(default_factory=dict)
    storage: str = field(default="memory://", repr=False)

    def __post_init__(self) -> None:
        for text in (self.per_address, self.per_caller, *self.per_job_type.values()):
            if text is not None:
                most_at_once(text)
        if not _is_storage(self.storage):
            raise ConfigurationError(f"the storage of rate limits must be {STORAGES}")

    @property
    def in_memory(self) -> bool:
        """Whether each process counts for itself."""
        return self.storage.startswith("memory:")


class RateLimiter(Protocol):
    """Counts while a request is served, and refuses what is too much."""

    def count_address(self, address: str) -> None:
        """Count a request. Raises Problem (429)."""

    def count_caller(self, caller: str | None) -> Mapping[str, str]:
        """Count a request that has been verified; returns the headers that say what is left. Raises Problem (429)."""

    def count_jobs(self, job_type: str, number: int = 1) -> None:
        """Count jobs of a type. Raises Problem: 429, or 400 for more at once than the limit will ever let pass."""


@cache
def most_at_once(limit: str) -> int:
    """Return how many a limit lets pass at one time. Raises ConfigurationError where it can't be read."""
    try:
        # One alone: of several, the headers could not say which is meant.
        (item,) = parse_many(limit)
    except ValueError:
        item = None
    if item is None or item.amount < 1:
        raise ConfigurationError(f"{limit!r} is no rate limit: write one, such as 100/minute or 5/second")
    return item.amount


def _is_storage(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _port = parts.port  # which can't be read where a password has a slash, say
    except ValueError:
        return False
    return "://" in url and parts.scheme in ("memory", "redis", "rediss")
