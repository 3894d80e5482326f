"""From an accepted request to a job: what it may be, and whether it is there already."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from http import HTTPStatus
from typing import Any
from uuid import UUID

from marshmallow import ValidationError as SchemaError

from portico_celery.adapters.job_trigger.webhook_trigger.backlog import Backlog
from portico_celery.adapters.job_trigger.webhook_trigger.caller import METADATA, Caller
from portico_celery.adapters.job_trigger.webhook_trigger.config import WebhookConfig
from portico_celery.adapters.job_trigger.webhook_trigger.idempotency import IdempotencyKey, webhook_metadata
from portico_celery.adapters.job_trigger.webhook_trigger.problem import Problem
from portico_celery.adapters.job_trigger.webhook_trigger.rate_limits import RateLimiter
from portico_celery.adapters.job_trigger.webhook_trigger.request_schema import (
    WebhookJobRequest,
    invalid_fields,
    require_near,
)
from portico_celery.ports.job import Job
from portico_celery.ports.job_reader import JobFilter, JobReader

Create = Callable[[WebhookJobRequest], Awaitable[Job]]


@dataclass(frozen=True, kw_only=True)
class Created:
    """A job, and whether it was there before."""

    job: Job
    replayed: bool


class JobCreation:
    """Creates the job that a caller asks for, if it may."""

    def __init__(
        self,
        *,
        config: WebhookConfig,
        limiter: RateLimiter,
        backlog: Backlog,
        reader: JobReader | None,
        create: Create,
    ) -> None:
        self._config = config
        self._limiter = limiter
        self._backlog = backlog
        self._reader = reader
        self._create = create

    async def create(
        self,
        wanted: WebhookJobRequest,
        caller: Caller,
        *,
        key: IdempotencyKey | None,
        request_id: str,
        now: datetime | None = None,
    ) -> Created:
        """Create the job, or find the one that the key stands for. Raises Problem, and what the creator raises.

        By ``now`` the time is judged that a caller asks for; what our own configuration asks for is not.
        """
        try:
            wanted = self.permitted(wanted, caller, now=now)
            self._limiter.count_jobs(wanted.job_type)
            await self._backlog.require_room(wanted.job_type, wanted.queue_name or self._config.default_queue)
        except Problem:
            # What was taken once is taken again, also when it would now be late, or too much.
            stored = await self.replayed(key)
            if stored is None:
                raise
            return stored
        job = await self._create(noted(wanted, caller, key, request_id))
        self._backlog.note(job, wanted.queue_name or self._config.default_queue)
        return created_or_replayed(job, key, request_id)

    async def replayed(self, key: IdempotencyKey | None) -> Created | None:
        """Return the job that the key stands for, if there is one and it can be looked up."""
        job = None if key is None or self._reader is None else await self._reader.get_job(key.job_id)
        if key is None or job is None:
            return None
        key.require_same(job)
        return Created(job=job, replayed=True)

    async def stored(self, keys: Sequence[IdempotencyKey]) -> Mapping[UUID, Job]:
        """Return the jobs that keys stand for, as ``replayed`` does, in one look."""
        if not keys or self._reader is None:
            return {}
        ids = tuple(key.job_id for key in keys)
        page = await self._reader.list_jobs(JobFilter(job_ids=ids, limit=len(ids)))
        return {job.id: job for job in page.jobs}

    def permitted(self, wanted: WebhookJobRequest, caller: Caller, *, now: datetime | None = None) -> WebhookJobRequest:
        """Return the request with what the configuration adds to it. Raises Problem: 400 or 403."""
        if now is not None:
            require_near(wanted.scheduled_at, now)
        self._require_valid_payload(wanted)
        if not (self._config.allows(wanted.job_type) and caller.may_create(wanted.job_type)):
            raise type_refused()
        named = wanted.queue_name or caller.only_queue
        if named is not None and not self._config.allows_queue(named):
            raise invalid_fields({"queue_name": ["This queue is not for callers of this webhook."]})
        queue_name = named or self._config.default_queue
        if not caller.may_use(queue_name):
            detail = "This caller may not create jobs in this queue: name one of its own as queue_name."
            raise Problem(HTTPStatus.FORBIDDEN, detail)
        priority = self._config.priority_map.get(wanted.job_type, wanted.priority)
        return replace(wanted, queue_name=queue_name, priority=priority or 0)

    def _require_valid_payload(self, wanted: WebhookJobRequest) -> None:
        schema = self._config.payload_schema(wanted.job_type)
        if schema is None:
            return
        try:
            schema.load(wanted.payload)
        except SchemaError as error:
            raise invalid_fields(error.messages_dict, prefix="payload") from None


def type_refused() -> Problem:
    """Return the same answer whether the type is registered or not: it is nobody's business outside."""
    return Problem(HTTPStatus.FORBIDDEN, "This webhook may not create jobs of this type.")


def noted(wanted: WebhookJobRequest, caller: Caller, key: IdempotencyKey | None, request_id: str) -> WebhookJobRequest:
    """Return the request with what its row shall remember of caller and key; unchanged where there are none."""
    if caller.name is None and key is None:
        return wanted
    note: dict[str, Any] = {"caller": caller.name, "request_id": request_id}
    if key is None:
        return replace(wanted, created_by=caller.id, metadata={METADATA: note})
    note["fingerprint"] = key.fingerprint
    return replace(wanted, job_id=key.job_id, created_by=caller.id, metadata={METADATA: note})


def created_or_replayed(job: Job, key: IdempotencyKey | None, request_id: str) -> Created:
    """Say whether a stored job is this request's: its row names the request that created it. Raises Problem (422)."""
    replayed = key is not None and webhook_metadata(job).get("request_id") != request_id
    if key is not None and replayed:
        key.require_same(job)
    return Created(job=job, replayed=replayed)
