"""Which job store a URL names."""

from __future__ import annotations

from portico_celery.adapters.job_store.sql_store import SqlJobStore
from portico_celery.exceptions import needs_extra
from portico_celery.ports.job_store import JobStore

#: A store in memory, which is one for each PorticoCelery and so is not opened by its URL.
MEMORY_URL = "memory://"


def open_store(url: str, *, result_ttl: float, allow_newer_schema: bool) -> JobStore:
    """Make the store; nothing connects yet. Raises ConfigurationError for a URL that no store serves."""
    if url.partition("://")[0] not in ("redis", "rediss"):
        return SqlJobStore(url, result_ttl=result_ttl, allow_newer_schema=allow_newer_schema)
    with needs_extra("a job store in Redis", extra="redis"):
        from portico_celery.adapters.job_store.redis_store import RedisJobStore
    return RedisJobStore(url, result_ttl=result_ttl, allow_newer_schema=allow_newer_schema)
