"""The jobs of a batch on their way, and what becomes of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from uuid import UUID

from portico_celery.adapters.job_trigger.webhook_trigger.config import DEFAULT_QUEUE
from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import HttpRequest
from portico_celery.adapters.job_trigger.webhook_trigger.idempotency import IdempotencyKey
from portico_celery.adapters.job_trigger.webhook_trigger.job_creation import Created
from portico_celery.adapters.job_trigger.webhook_trigger.problem import Problem
from portico_celery.adapters.job_trigger.webhook_trigger.request_schema import WebhookJobRequest
from portico_celery.ports.job import Job


@dataclass(frozen=True, kw_only=True)
class Item:
    """A job of the batch on its way."""

    wanted: WebhookJobRequest
    key: IdempotencyKey | None


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A job of the batch that is refused, unless its key stands for one that was taken before."""

    problem: Problem
    key: IdempotencyKey | None = None


def without_repeated_keys(items: Sequence[Item | Refused]) -> list[Item | Refused]:
    """Refuse each job whose key an earlier one has."""
    seen: set[object] = set()
    kept: list[Item | Refused] = []
    for item in items:
        if item.key is not None and item.key.job_id in seen:
            text = "An earlier job of this batch has the same idempotency key."
            kept.append(Refused(problem=Problem(HTTPStatus.BAD_REQUEST, text)))
            continue
        if item.key is not None:
            seen.add(item.key.job_id)
        kept.append(item)
    return kept


def replayed_before(refused: Refused, before: Mapping[UUID, Job]) -> Created | Problem:
    """Return the job that a refused one's key stands for; else what it is refused for."""
    job = None if refused.key is None else before.get(refused.key.job_id)
    if refused.key is None or job is None:
        return refused.problem
    try:
        refused.key.require_same(job)
    except Problem as problem:
        return problem
    return Created(job=job, replayed=True)


def target_of(item: Item) -> tuple[str, str]:
    """Return its type, and the queue that it asks for."""
    return item.wanted.job_type, item.wanted.queue_name or DEFAULT_QUEUE


def outcome_document(outcome: Created | Problem, request: HttpRequest) -> dict[str, Any]:
    """Return what the sender reads of a job's outcome."""
    if isinstance(outcome, Problem):
        wait = outcome.headers.get("Retry-After")
        return {
            **outcome.answer(request.request_id).document,
            **({} if wait is None else {"retry_after": int(wait)}),
        }
    job = outcome.job
    return {
        "status": HTTPStatus.ACCEPTED,
        "job_id": str(job.id),
        "job_status": job.status.value,
        "status_url": f"{request.jobs_url}/{job.id}",
        "replayed": outcome.replayed,
    }
