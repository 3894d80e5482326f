"""What the addresses that create jobs do, each as a short list of steps."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any

from portico_celery.adapters.job_trigger.webhook_trigger import strict_json
from portico_celery.adapters.job_trigger.webhook_trigger.activity import Activity
from portico_celery.adapters.job_trigger.webhook_trigger.admission import Admission, trigger_stopped
from portico_celery.adapters.job_trigger.webhook_trigger.caller import Caller
from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import HttpAnswer, HttpRequest
from portico_celery.adapters.job_trigger.webhook_trigger.idempotency import idempotency_key
from portico_celery.adapters.job_trigger.webhook_trigger.job_creation import Created, JobCreation
from portico_celery.adapters.job_trigger.webhook_trigger.job_document import accepted_document
from portico_celery.adapters.job_trigger.webhook_trigger.problem import Problem
from portico_celery.adapters.job_trigger.webhook_trigger.request_schema import job_request
from portico_celery.adapters.job_trigger.webhook_trigger.source import WebhookEvent, WebhookSource

# A sender that has been verified may have much to tell: a push of many commits, say.
_OF_SENDERS = strict_json.JsonLimits(nodes=200_000)


@dataclass(frozen=True, kw_only=True)
class CreatingEndpoints:
    """One job for one request: from callers of our own, and from named senders."""

    admission: Admission
    creation: JobCreation
    activity: Activity
    clock: Callable[[], datetime]
    shows_jobs: bool

    async def create_job(self, request: HttpRequest) -> HttpAnswer:
        """Answer ``POST {prefix}/jobs``."""
        caller = self.admission.admit_caller(request)
        key = idempotency_key(request.header("Idempotency-Key"), scope=caller.name, body=request.body)
        wanted = job_request(parsed(request.body))
        # Only now does a stop have to wait for us: a client that sends its body slowly does not hold it up.
        with self.activity.admission() as admitted:
            if not admitted:
                raise trigger_stopped()
            created = await self.creation.create(
                wanted, caller, key=key, request_id=request.request_id, now=self.clock()
            )
        return self._accepted(caller, created, job_url(request, created) if self.shows_jobs else None)

    async def receive(self, request: HttpRequest, name: str, source: WebhookSource) -> HttpAnswer:
        """Answer ``POST {prefix}/<source>``."""
        caller = self.admission.admit_sender(request, name, source)
        document = parsed(request.body, _OF_SENDERS)
        if not isinstance(document, dict):
            raise Problem(HTTPStatus.BAD_REQUEST, "The body must be a JSON object.")
        greeting = source.scheme.handshake(document)
        if greeting is not None:
            return HttpAnswer(status=HTTPStatus.OK, document=greeting, headers=caller.quota)
        wanted = source.request(_event(request, source, document))
        if wanted is None:
            self.activity.event_ignored()
            return HttpAnswer(status=HTTPStatus.ACCEPTED, document={"status": "ignored"}, headers=caller.quota)
        body = _without(source.scheme.counters, request.body, document)
        key = idempotency_key(wanted.idempotency_key, scope=caller.name, body=body)
        with self.activity.admission() as admitted:
            if not admitted:
                raise trigger_stopped()
            created = await self.creation.create(wanted, caller, key=key, request_id=request.request_id)
        # A sender has no key to look at its job with.
        return self._accepted(caller, created, None)

    def _accepted(self, caller: Caller, created: Created, url: str | None) -> HttpAnswer:
        headers = {**caller.quota} if url is None else {**caller.quota, "Location": url}
        if created.replayed:
            headers["Idempotency-Replayed"] = "true"
        return HttpAnswer(status=HTTPStatus.ACCEPTED, document=accepted_document(created.job, url), headers=headers)


def job_url(request: HttpRequest, created: Created) -> str:
    """Return where a job is shown."""
    return f"{request.jobs_url}/{created.job.id}"


def parsed(body: bytes, limits: strict_json.JsonLimits = strict_json.JsonLimits()) -> Any:  # noqa: B008  # frozen
    """Read the body. Raises Problem (400)."""
    try:
        return strict_json.load(body, limits)
    except strict_json.InvalidJson as error:
        raise Problem(HTTPStatus.BAD_REQUEST, str(error)) from None


def _without(counters: Collection[str], body: bytes, document: dict[str, Any]) -> bytes:
    """Return a body as it is each time that it is delivered."""
    if not counters:
        return body
    return json.dumps({name: value for name, value in document.items() if name not in counters}).encode()


def _event(request: HttpRequest, source: WebhookSource, document: dict[str, Any]) -> WebhookEvent:
    return WebhookEvent(
        type=source.scheme.event_type(request, document),
        delivery_id=source.scheme.delivery_id(request, document),
        document=document,
        headers=dict(request.headers),
    )
