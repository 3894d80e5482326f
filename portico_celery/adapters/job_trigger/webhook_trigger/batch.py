"""Many jobs in one request, each with an outcome of its own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any

from portico_celery.adapters.job_trigger.webhook_trigger.activity import Activity
from portico_celery.adapters.job_trigger.webhook_trigger.admission import Admission, trigger_stopped
from portico_celery.adapters.job_trigger.webhook_trigger.backlog import Backlog
from portico_celery.adapters.job_trigger.webhook_trigger.batch_items import (
    Item,
    Refused,
    outcome_document,
    replayed_before,
    target_of,
    without_repeated_keys,
)
from portico_celery.adapters.job_trigger.webhook_trigger.caller import Caller
from portico_celery.adapters.job_trigger.webhook_trigger.config import MAX_BATCH_JOBS
from portico_celery.adapters.job_trigger.webhook_trigger.endpoints import parsed
from portico_celery.adapters.job_trigger.webhook_trigger.errors import problem_for
from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import HttpAnswer, HttpRequest
from portico_celery.adapters.job_trigger.webhook_trigger.idempotency import idempotency_key
from portico_celery.adapters.job_trigger.webhook_trigger.job_creation import (
    Created,
    JobCreation,
    created_or_replayed,
    noted,
)
from portico_celery.adapters.job_trigger.webhook_trigger.problem import Problem
from portico_celery.adapters.job_trigger.webhook_trigger.rate_limits import RateLimiter
from portico_celery.adapters.job_trigger.webhook_trigger.request_schema import BatchItemSchema, job_request
from portico_celery.adapters.job_trigger.webhook_trigger.strict_json import JsonLimits
from portico_celery.exceptions import ValidationError
from portico_celery.ports.job import Job
from portico_celery.ports.job_creator import BatchJobCreator

_LIMITS = JsonLimits(nodes=200_000)


@dataclass(frozen=True, kw_only=True)
class BatchEndpoint:
    """``POST {prefix}/jobs/batch``: all that can be created is created in one step."""

    admission: Admission
    creation: JobCreation
    creator: BatchJobCreator
    limiter: RateLimiter
    backlog: Backlog
    activity: Activity
    clock: Callable[[], datetime]

    async def create_jobs(self, request: HttpRequest) -> HttpAnswer:
        """Answer with what became of each, in their order; 202 if the request as a whole could be read."""
        caller = self.admission.admit_caller(request)
        # One that can't be read is no matter of a single job.
        idempotency_key(request.header("Idempotency-Key"), scope=caller.name, body=b"")
        items = [self._item(request, caller, index, job) for index, job in enumerate(_jobs_of(request.body))]
        items = without_repeated_keys(self._within_limits(items))
        with self.activity.admission() as admitted:
            if not admitted:
                raise trigger_stopped()
            targets = Counter(target_of(item) for item in items if isinstance(item, Item))
            for (job_type, queue_name), number in targets.items():
                await self.backlog.require_room(job_type, queue_name, number)
            outcomes = await self._create(items, caller, request)
        documents = [outcome_document(outcome, request) for outcome in outcomes]
        accepted = sum(isinstance(outcome, Created) for outcome in outcomes)
        return HttpAnswer(
            status=HTTPStatus.ACCEPTED,
            document={"accepted": accepted, "refused": len(outcomes) - accepted, "jobs": documents},
            headers=caller.quota,
        )

    def _item(self, request: HttpRequest, caller: Caller, index: int, document: Any) -> Item | Refused:
        """Read one job; its key is its own, or follows from the request's."""
        key = None
        try:
            wanted = job_request(document, schema=BatchItemSchema)
            body = json.dumps(document, sort_keys=True).encode()
            key = idempotency_key(wanted.idempotency_key, scope=caller.name, body=body) or idempotency_key(
                request.header("Idempotency-Key"), scope=caller.name, body=body, place=index
            )
            return Item(wanted=self.creation.permitted(wanted, caller, now=self.clock()), key=key)
        except Problem as problem:
            return Refused(problem=problem, key=key)

    def _within_limits(self, items: Sequence[Item | Refused]) -> list[Item | Refused]:
        """Refuse all jobs of a type that has too many."""
        counts = Counter(item.wanted.job_type for item in items if isinstance(item, Item))
        too_many: dict[str, Problem] = {}
        for job_type, number in counts.items():
            try:
                self.limiter.count_jobs(job_type, number)
            except Problem as problem:
                too_many[job_type] = problem
        return [
            Refused(problem=too_many[item.wanted.job_type], key=item.key)
            if isinstance(item, Item) and item.wanted.job_type in too_many
            else item
            for item in items
        ]

    async def _create(
        self, items: Sequence[Item | Refused], caller: Caller, request: HttpRequest
    ) -> list[Created | Problem]:
        # What was taken once is taken again, also when it would now be late, or too much. It is looked up first: where
        # that fails, nothing has been created behind the 503.
        before = await self.creation.stored([item.key for item in items if isinstance(item, Refused) and item.key])
        good = [item for item in items if isinstance(item, Item)]
        arguments = [noted(item.wanted, caller, item.key, request.request_id).arguments() for item in good]
        stored = iter(zip(good, await self.creator.create_each(arguments), strict=True))
        return [
            self._settled(*next(stored), request) if isinstance(item, Item) else replayed_before(item, before)
            for item in items
        ]

    def _settled(self, item: Item, result: Job | ValidationError, request: HttpRequest) -> Created | Problem:
        if isinstance(result, ValidationError):
            return problem_for(result, creating=True)
        self.backlog.note(result, target_of(item)[1])
        try:
            created = created_or_replayed(result, item.key, request.request_id)
        except Problem as problem:
            return problem
        if not created.replayed:
            self.activity.job_created()
        return created


def _jobs_of(body: bytes) -> list[Any]:
    document = parsed(body, _LIMITS)
    jobs = document.get("jobs") if isinstance(document, dict) and set(document) == {"jobs"} else None
    if not isinstance(jobs, list) or not 1 <= len(jobs) <= MAX_BATCH_JOBS:
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            f'The body must be {{"jobs": [...]}} and nothing else, with 1 to {MAX_BATCH_JOBS} jobs.',
        )
    return jobs
