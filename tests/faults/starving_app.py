"""The application under test with one handler more, which takes all the memory that its process may have."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from portico_celery.ports.job import Job
from tests.faults.fault_app import Handler, app, portico

__all__ = ["app"]

_ALLOWED_BYTES = 32 << 20  # beyond what the process has already
_taken: list[bytes] = []


class Starve(Handler):
    """In its first attempt, leaves its process without memory for anything else: whatever comes next there ends it."""

    async def work(self, job: Job, attempt: int) -> None:  # noqa: ARG002  # the handler's signature
        if attempt == 1:
            _take_all_memory()
            raise MemoryError


def _take_all_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _ALLOWED_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    size = _ALLOWED_BYTES
    while size > 16:
        try:
            _taken.append(bytes(size))
        except MemoryError:
            size //= 2


portico.register(Starve("fault.starve"), queue=os.environ["FAULT_QUEUE"])
