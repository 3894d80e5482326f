"""The Celery application that the integration tests run: its handlers write to a ledger what is asked of them.

Everything is told by the environment; see Journey in worker_process.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from abc import abstractmethod
from pathlib import Path

import aiohttp
from celery import Celery

from portico_celery import PorticoCelery
from portico_celery.ports.job import Job, JobResult
from portico_celery.ports.job_handler import JobHandler

_LEDGER = os.environ["JOURNEY_LEDGER"]

app = Celery("journey", broker=os.environ["JOURNEY_BROKER"])
app.conf.update(json.loads(os.environ["JOURNEY_SETTINGS"]))
portico = PorticoCelery(app, store=os.environ["JOURNEY_STORE"])


def note(kind: str, job: Job, detail: object) -> None:
    """Append a line to the ledger, whole and in order, whoever else does so too."""
    line = f"{kind}|{job.id}|{job.retry_count}|{detail}".replace("\n", " ")
    ledger = os.open(_LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(ledger, f"{line}\n".encode())
    finally:
        os.close(ledger)


def starts(job: Job) -> int:
    """Count how often a job was started."""
    return Path(_LEDGER).read_text().count(f"start|{job.id}|")


class Handler(JobHandler):
    """Notes each call."""

    def __init__(self, job_type: str) -> None:
        self._job_type = job_type

    @property
    def job_type(self) -> str:
        return self._job_type

    async def handle(self, job: Job) -> JobResult:
        note("start", job, os.getpid())
        return await self.work(job)

    @abstractmethod
    async def work(self, job: Job) -> JobResult:
        """Do what this kind of job does."""

    async def on_failure(self, job: Job, error: Exception) -> None:
        note("on_failure", job, f"{type(error).__name__}: {error}")


class Succeed(Handler):
    """Returns what it was given, after ``seconds``; or once there is a file at ``until``."""

    async def work(self, job: Job) -> JobResult:
        await asyncio.sleep(job.payload.get("seconds", 0))
        while not os.access(job.payload.get("until", "/"), os.F_OK):  # noqa: ASYNC110  # another process makes it
            await asyncio.sleep(0.05)
        return JobResult(success=True, result_data={"payload": job.payload})


class Raise(Handler):
    """Raises in the first ``times`` runs; always, where the payload does not say."""

    async def work(self, job: Job) -> JobResult:
        if job.retry_count < job.payload.get("times", job.max_retries + 1):
            raise RuntimeError("it does not work")
        return JobResult(success=True)


class RaiseTwice(Raise):
    """Raises in handle, and in on_failure as well."""

    async def on_failure(self, job: Job, error: Exception) -> None:
        await super().on_failure(job, error)
        raise LookupError("nobody to alert")


class Decline(Handler):
    """Returns a failure; ``retry`` is whether it recommends to try again, which will then succeed."""

    async def work(self, job: Job) -> JobResult:
        if job.retry_count:
            return JobResult(success=True)
        result_data: dict[str, object] = {"reason": "no such address"}
        if job.payload.get("retry"):
            result_data["retry_recommended"] = True
        return JobResult(success=False, result_data=result_data)


class HangAtFirst(Handler):
    """Its first run does not come to an end by itself."""

    async def work(self, job: Job) -> JobResult:
        if job.retry_count == 0:
            await asyncio.Event().wait()
        return JobResult(success=True)


class HangAtItsFirstStart(Handler):
    """Its first start does not come to an end by itself, whichever retry that is: it awaits, or it blocks."""

    async def work(self, job: Job) -> JobResult:
        if starts(job) == 1:
            if job.payload.get("blocks"):
                time.sleep(3600)  # noqa: ASYNC251  # the fault that is meant
            await asyncio.Event().wait()
        return JobResult(success=True)


class BlockTheLoop(Handler):
    """Holds up the whole event loop for ``seconds``."""

    async def work(self, job: Job) -> JobResult:
        time.sleep(job.payload["seconds"])  # noqa: ASYNC251  # the fault that is meant
        return JobResult(success=True)


class Fetch(Handler):
    """Fetches ``url``, with one HTTP session for all jobs of a process; it belongs to the loop that it was made in."""

    session: aiohttp.ClientSession | None = None

    async def work(self, job: Job) -> JobResult:
        if self.session is None:
            self.session = aiohttp.ClientSession()
            note("session", job, os.getpid())
        async with self.session.get(job.payload["url"]) as response:
            return JobResult(success=response.ok, result_data={"text": await response.text()})


HANDLERS = (
    Succeed("journey.succeed"),
    Raise("journey.raise"),
    RaiseTwice("journey.raise_twice"),
    Decline("journey.decline"),
    HangAtFirst("journey.hang_at_first"),
    HangAtItsFirstStart("journey.hang_at_its_first_start"),
    BlockTheLoop("journey.block"),
    Fetch("journey.fetch"),
)
for handler in HANDLERS:
    # Where there is a result backend, it is for canvas.
    portico.register(handler, queue=os.environ["JOURNEY_QUEUE"], ignore_result=app.conf.result_backend is None)
