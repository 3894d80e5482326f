"""The Flask side of the webhook trigger: routes, and what an error looks like from outside."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar
from uuid import UUID

from flask import Blueprint, Response, request, url_for
from flask.typing import ResponseReturnValue

from portico_celery import event_loop
from portico_celery.adapters.job_trigger.webhook_trigger.activity import Activity
from portico_celery.adapters.job_trigger.webhook_trigger.config import WebhookConfig
from portico_celery.adapters.job_trigger.webhook_trigger.errors import error_response, trigger_stopped
from portico_celery.adapters.job_trigger.webhook_trigger.job_document import accepted_document, job_document
from portico_celery.adapters.job_trigger.webhook_trigger.problem import Problem
from portico_celery.adapters.job_trigger.webhook_trigger.request_body import json_body
from portico_celery.adapters.job_trigger.webhook_trigger.request_schema import WebhookJobRequest, job_request
from portico_celery.ports.job import Job
from portico_celery.ports.job_creator import JobCreator
from portico_celery.ports.job_reader import JobReader

T = TypeVar("T")

_ALL_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def webhook_blueprint(
    *,
    config: WebhookConfig,
    activity: Activity,
    creator: JobCreator,
    create: Callable[[WebhookJobRequest], Coroutine[Any, Any, Job]],
) -> Blueprint:
    """Build the blueprint. The route of single jobs exists only where the creator is a JobReader too."""
    reader = creator if isinstance(creator, JobReader) else None
    views = _Views(config=config, activity=activity, creator=creator, reader=reader, create=create)
    blueprint = Blueprint("portico_webhook", __name__, url_prefix=config.prefix)
    _add_route(blueprint, "/jobs", "jobs", views.create_job, "POST")
    if reader is not None:
        _add_route(blueprint, "/jobs/<job_id>", "job", views.show_job, "GET", "HEAD")
    blueprint.before_request(views.refuse_while_stopped)
    blueprint.after_request(_forbid_storing)
    blueprint.register_error_handler(Exception, error_response)
    return blueprint


def _add_route(
    blueprint: Blueprint, rule: str, endpoint: str, view: Callable[..., ResponseReturnValue], *methods: str
) -> None:
    # The route takes every method, so that we, and not the application it is mounted in, answer the wrong ones.
    allow = {"Allow": ", ".join((*methods, "OPTIONS"))}

    def dispatch(**arguments: str) -> ResponseReturnValue:
        if request.method == "OPTIONS":
            return Response(status=HTTPStatus.NO_CONTENT, headers=allow)
        if request.method not in methods:
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, "This URL does not support the method.", headers=allow)
        return view(**arguments)

    blueprint.add_url_rule(rule, endpoint, dispatch, methods=_ALL_METHODS, provide_automatic_options=False)


def _forbid_storing(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response


@dataclass(frozen=True, kw_only=True)
class _Views:
    config: WebhookConfig
    activity: Activity
    creator: JobCreator
    reader: JobReader | None
    create: Callable[[WebhookJobRequest], Coroutine[Any, Any, Job]]

    def refuse_while_stopped(self) -> None:
        if not self.activity.running:
            raise trigger_stopped()

    def create_job(self) -> ResponseReturnValue:
        wanted = job_request(json_body(request, max_bytes=self.config.max_body_bytes))
        # Only now does a stop have to wait for us: a client that sends its body slowly does not hold it up.
        with self.activity.admission() as admitted:
            if not admitted:
                raise trigger_stopped()
            job = self._wait(self.create(wanted))
        status_url = None if self.reader is None else url_for(".job", job_id=str(job.id))
        response = _json(accepted_document(job, status_url), HTTPStatus.ACCEPTED)
        if status_url is not None:
            response.headers["Location"] = status_url
        return response

    def show_job(self, job_id: str) -> ResponseReturnValue:
        uuid = _uuid(job_id)
        record = None if uuid is None or self.reader is None else self._wait(self.reader.get_record(uuid))
        if record is None:
            raise Problem(HTTPStatus.NOT_FOUND, "There is no such job.")
        return _json(job_document(record), HTTPStatus.OK)

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return event_loop.wait(coroutine, needs_event_loop=getattr(self.creator, "needs_event_loop", True))


def _json(document: dict[str, Any], status: HTTPStatus) -> Response:
    return Response(json.dumps(document), status=status, content_type="application/json")


def _uuid(text: str) -> UUID | None:
    try:
        uuid = UUID(text)
    except ValueError:
        return None
    # UUID() also reads braces, "urn:uuid:" and text without hyphens: a job has one URL, not many.
    return uuid if str(uuid) == text.lower() else None
