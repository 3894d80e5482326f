"""The Celery application under test. Everything is told by the environment; see System."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import time
from abc import abstractmethod
from pathlib import Path

from celery import Celery

from portico_celery import PorticoCelery
from portico_celery.ports.job import Job, JobResult
from portico_celery.ports.job_handler import JobHandler
from tests.faults.ledger import note

_DIRECTORY = Path(os.environ["FAULT_DIRECTORY"])

app = Celery("fault", broker=os.environ["FAULT_BROKER"])
app.conf.update(json.loads(os.environ["FAULT_SETTINGS"]))
portico = PorticoCelery(app, store=os.environ["FAULT_STORE"])


class Handler(JobHandler):
    """Notes each start, each end, each failure, and where it is stopped."""

    def __init__(self, job_type: str) -> None:
        self._job_type = job_type

    @property
    def job_type(self) -> str:
        return self._job_type

    async def handle(self, job: Job) -> JobResult:
        attempt = job.retry_count + 1  # a job's attempts here are its first run and its retries
        note(_DIRECTORY, "start", job.id, attempt)
        try:
            await self.work(job, attempt)
        except asyncio.CancelledError:
            note(_DIRECTORY, "stopped", job.id, attempt)
            raise
        note(_DIRECTORY, "end", job.id, attempt)
        return JobResult(success=True, result_data={"attempt": attempt})

    @abstractmethod
    async def work(self, job: Job, attempt: int) -> None:
        """Do what this kind of job does."""

    async def on_failure(self, job: Job, error: Exception) -> None:  # noqa: ARG002  # the port's signature
        note(_DIRECTORY, "failure", job.id, job.retry_count + 1)


class Work(Handler):
    """Takes ``seconds``: a number, or a list with one for each attempt."""

    async def work(self, job: Job, attempt: int) -> None:
        seconds = job.payload.get("seconds", 0)
        await asyncio.sleep(seconds[min(attempt, len(seconds)) - 1] if isinstance(seconds, list) else seconds)


class Die(Handler):
    """Ends its own process in its first ``times`` attempts."""

    async def work(self, job: Job, attempt: int) -> None:
        if attempt > job.payload.get("times", 1):
            return
        if job.payload["how"] == "exit":
            os._exit(1)
        os.kill(os.getpid(), signal.Signals[job.payload["how"]])
        await asyncio.sleep(60)  # the signal comes at once


class Block(Handler):
    """Takes ``seconds`` in the way that ``how`` says; only the first attempt holds the interpreter's lock."""

    async def work(self, job: Job, attempt: int) -> None:
        seconds = job.payload["seconds"]
        how = job.payload["how"]
        if how == "await":
            await asyncio.sleep(seconds)
        elif how == "sleep":
            time.sleep(seconds)  # noqa: ASYNC251  # the fault that is meant
        elif how == "loop":
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                pass
        elif attempt == 1:
            ctypes.PyDLL(None).sleep(int(seconds))  # called as an extension that never lets the lock go


for handler in (Work("fault.work"), Die("fault.die"), Block("fault.block")):
    portico.register(handler, queue=os.environ["FAULT_QUEUE"])
