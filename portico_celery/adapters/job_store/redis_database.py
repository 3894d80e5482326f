"""The Redis store's database: scripts and commands under one hash tag, and what is looked at before the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portico_celery.adapters.job_store import redis_scripts
from portico_celery.adapters.job_store.redis_client import (
    checked,
    make_client,
    pipelined,
    shown,
    translated_errors,
    warn_of_losses,
)
from portico_celery.adapters.job_store.redis_scripts import Request
from portico_celery.adapters.job_store.schema_version import refuse_newer

SCHEMA_VERSION = 1


class RedisDatabase:
    """Sends what is asked, with errors of our own tree. Nothing connects before the first call.

    All keys begin with ``tag``, which is ``{prefix}``.
    """

    def __init__(self, url: str, *, prefix: str, allow_newer_schema: bool) -> None:
        self._allow_newer_schema = allow_newer_schema
        self._client = make_client(url)
        self._shown_url = shown(url)
        self.tag = f"{{{prefix}}}"
        self._prepared = False

    def run(self, script: str, requests: Sequence[Request], *, clock_offset: int) -> list[Any]:
        """Run a script once for each request, in one pipeline; ``clock_offset`` is in microseconds."""
        if not requests:
            return []
        self.prepare()
        with translated_errors(self._shown_url):
            return redis_scripts.run(self._client, script, self.tag, clock_offset, requests)

    def send(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send plain commands, in one pipeline."""
        self.prepare()
        with translated_errors(self._shown_url):
            return checked(pipelined(self._client, commands))

    def prepare(self) -> None:
        """Note the version of the keys' layout, and warn of settings by which the server may lose jobs. Idempotent."""
        # Without a lock: two threads that come at once do the same twice, and neither waits for the other's time-out.
        if self._prepared:
            return
        with translated_errors(self._shown_url):
            self._check_version()
            warn_of_losses(self._client, self._shown_url)
        self._prepared = True

    def _check_version(self) -> None:
        key = f"{self.tag}:schema"
        [version] = checked(pipelined(self._client, [("GET", key)]))
        if version is None:
            # Not at once: a Redis that is full would refuse it, and we could read nothing.
            _, version = checked(pipelined(self._client, [("SETNX", key, SCHEMA_VERSION), ("GET", key)]))
        refuse_newer(int(version), known=SCHEMA_VERSION, allow_newer=self._allow_newer_schema)

    def close(self) -> None:
        """Release connections. Idempotent; a later call opens them again."""
        self._client.close()
