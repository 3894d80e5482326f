"""A process that takes jobs by ``dequeue``, with many callers at once, and no worker in it.

    python -m tests.faults.puller CALLERS

The handlers are those of fault_app, whose ledger it writes; it goes on until it is killed.
"""

from __future__ import annotations

import asyncio
import os
import sys

from portico_celery.ports.job import Job
from tests.faults.fault_app import Work, portico

READY = "callers wait"

_QUEUE = os.environ["FAULT_QUEUE"]
_HANDLER = Work("fault.work")
_TIMEOUT = 5.0


async def run(job: Job) -> None:
    """Run a job, and say that it is done."""
    await _HANDLER.handle(job)
    await portico.queue.acknowledge(job.id)


async def pull() -> None:
    """Take one job after the other."""
    while True:
        job = await portico.queue.dequeue(_QUEUE, _TIMEOUT)
        if job is not None:
            await run(job)


async def main(callers: int) -> None:
    """Pull with so many callers."""
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(pull())
        print(READY, flush=True)  # noqa: T201  # for who waits for it


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
