"""Looking at jobs over HTTP, and changing them. A caller has its own jobs: any other does not exist for it."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from threading import BoundedSemaphore
from typing import Any
from uuid import UUID

from portico_celery.adapters.job_trigger.webhook_trigger.activity import Activity
from portico_celery.adapters.job_trigger.webhook_trigger.admission import Admission
from portico_celery.adapters.job_trigger.webhook_trigger.caller import Caller
from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import HttpAnswer, HttpRequest
from portico_celery.adapters.job_trigger.webhook_trigger.job_document import (
    job_document,
    job_summary,
    page_document,
    stats_document,
)
from portico_celery.adapters.job_trigger.webhook_trigger.list_query import job_filter, wait_seconds
from portico_celery.adapters.job_trigger.webhook_trigger.problem import Problem
from portico_celery.exceptions import ValidationError
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_admin import JobAdmin
from portico_celery.ports.job_reader import JobReader, JobRecord

_TERMINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.DEAD_LETTER})
_POLL_SECONDS = 0.1
# So that those who wait leave threads for those who create.
_MAX_WAITING = 8
_QUEUE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,199}")


@dataclass(frozen=True, kw_only=True)
class JobsApi:
    """``admin`` is None where jobs can't be changed. ``pause`` waits without holding up an event loop."""

    admission: Admission
    activity: Activity
    reader: JobReader
    admin: JobAdmin | None
    pause: Callable[[float], Awaitable[None]]
    _waiting: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(_MAX_WAITING))

    async def show_job(self, request: HttpRequest, job_id: str) -> HttpAnswer:
        """Answer ``GET {prefix}/jobs/<id>``; with ``?wait=5`` when the job has ended, or after 5 seconds."""
        caller = self.admission.admit_caller(request)
        seconds = wait_seconds(request.query)
        record = await self._record(job_id, caller)
        if seconds and record.job.status not in _TERMINAL and self._waiting.acquire(blocking=False):
            try:
                record = await self._ended(record, caller, time.monotonic() + seconds)
            finally:
                self._waiting.release()
        return _answer(caller, job_document(record))

    async def list_jobs(self, request: HttpRequest) -> HttpAnswer:
        """Answer ``GET {prefix}/jobs``: one page of the caller's own, the newest first."""
        caller = self.admission.admit_caller(request)
        wanted = job_filter(request.query, caller.id)
        try:
            page = await self.reader.list_jobs(wanted)
        except ValidationError as error:
            raise Problem(
                HTTPStatus.BAD_REQUEST,
                "The cursor is not one of a page before.",
                errors={"cursor": ["Is not known."]},
                reason=str(error),
            ) from None
        return _answer(caller, page_document(page))

    async def cancel_job(self, request: HttpRequest, job_id: str) -> HttpAnswer:
        """Answer ``POST {prefix}/jobs/<id>/cancel``: 409 where the job has started or ended."""
        return await self._change(request, job_id, self._admin().cancel_job, "Only a job that waits can be cancelled.")

    async def requeue_job(self, request: HttpRequest, job_id: str) -> HttpAnswer:
        """Answer ``POST {prefix}/jobs/<id>/requeue``: 409 where the job has not failed."""
        return await self._change(request, job_id, self._admin().requeue_job, "Only a failed job can be requeued.")

    async def show_queue(self, request: HttpRequest, queue_name: str) -> HttpAnswer:
        """Answer ``GET {prefix}/queues/<name>/stats``: the caller's own jobs, where it may use the queue."""
        caller = self.admission.admit_caller(request)
        if not _QUEUE.fullmatch(queue_name) or not caller.may_use(queue_name):
            raise Problem(HTTPStatus.NOT_FOUND, "There is no such queue.")
        return _answer(caller, stats_document(await self.reader.get_queue_stats(queue_name, created_by=caller.id)))

    async def _change(
        self, request: HttpRequest, job_id: str, change: Callable[[UUID], Awaitable[bool]], refused: str
    ) -> HttpAnswer:
        caller = self.admission.admit_changer(request)
        job = (await self._record(job_id, caller)).job
        if not await change(job.id):
            raise Problem(HTTPStatus.CONFLICT, refused)
        return _answer(caller, job_summary(await self._again(job)))

    async def _again(self, job: Job) -> Job:
        return await self.reader.get_job(job.id) or job

    def _admin(self) -> JobAdmin:
        if self.admin is None:
            raise Problem(HTTPStatus.NOT_FOUND, "Jobs can't be changed here.")
        return self.admin

    async def _record(self, job_id: str, caller: Caller) -> JobRecord:
        uuid = _uuid(job_id)
        record = None if uuid is None else await self.reader.get_record(uuid)
        if record is None or not caller.owns(record.job):
            raise Problem(HTTPStatus.NOT_FOUND, "There is no such job.")
        return record

    async def _ended(self, record: JobRecord, caller: Caller, deadline: float) -> JobRecord:
        while record.job.status not in _TERMINAL and time.monotonic() < deadline and self.activity.may_wait:
            await self.pause(_POLL_SECONDS)
            record = await self._record(str(record.job.id), caller)
        return record


def _answer(caller: Caller, document: Mapping[str, Any]) -> HttpAnswer:
    return HttpAnswer(status=HTTPStatus.OK, document=document, headers=caller.quota)


def _uuid(text: str) -> UUID | None:
    try:
        uuid = UUID(text)
    except ValueError:
        return None
    # UUID() also reads braces, "urn:uuid:" and text without hyphens: a job has one URL, not many.
    return uuid if str(uuid) == text.lower() else None
