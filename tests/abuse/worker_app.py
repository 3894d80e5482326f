"""The Celery application behind the webhook as its worker has it: with handlers, which do what a payload says."""

from __future__ import annotations

import os

from portico_celery.ports.job import Job, JobResult
from portico_celery.ports.job_handler import JobHandler
from tests.abuse.abuse_app import TYPES, app, portico

__all__ = ["app", "portico"]


class Obey(JobHandler):
    """Succeeds; or raises, where the payload says so."""

    def __init__(self, job_type: str) -> None:
        self._job_type = job_type

    @property
    def job_type(self) -> str:
        return self._job_type

    async def handle(self, job: Job) -> JobResult:
        if job.payload.get("fails"):
            raise RuntimeError("as it was told to")
        return JobResult(success=True)

    async def on_failure(self, job: Job, error: Exception) -> None:
        pass


for name in TYPES:
    portico.register(Obey(name), queue=os.environ["ABUSE_QUEUE"])
