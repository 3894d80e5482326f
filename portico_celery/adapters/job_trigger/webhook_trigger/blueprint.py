"""The thin layer between Flask and the trigger: routes, and plain data in both directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Request, Response
from flask.globals import request_ctx
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException

from portico_celery import event_loop
from portico_celery.adapters.job_trigger.webhook_trigger.admission import Admission
from portico_celery.adapters.job_trigger.webhook_trigger.errors import error_answer
from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import Endpoint, HttpAnswer, Route
from portico_celery.adapters.job_trigger.webhook_trigger.problem import Problem
from portico_celery.adapters.job_trigger.webhook_trigger.request_reading import limited_body, plain_request, prefix_of

_ALL_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def webhook_blueprint(*, prefix: str, routes: list[Route], admission: Admission, needs_event_loop: bool) -> Blueprint:
    """Build the blueprint."""
    blueprint = Blueprint("portico_webhook", __name__, url_prefix=prefix)
    for route in routes:
        view = _view_function(_View(route=route, admission=admission, needs_event_loop=needs_event_loop))
        # The route takes every method, so that we, and not the application it is mounted in, answer the wrong ones.
        blueprint.add_url_rule(route.rule, route.name, view, methods=_ALL_METHODS, provide_automatic_options=False)
    blueprint.register_error_handler(Exception, lambda error: _error_response(error))
    return blueprint


@dataclass(frozen=True, kw_only=True)
class _View:
    route: Route
    admission: Admission
    needs_event_loop: bool

    def respond(self, **arguments: str) -> ResponseReturnValue:
        self.admission.require_running()
        request = request_ctx.request
        method = request.method
        if method == "OPTIONS":
            return Response(status=HTTPStatus.NO_CONTENT, headers={**self._allow(), "Cache-Control": "no-store"})
        endpoint = self.route.endpoints.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, "This URL does not support the method.", headers=self._allow())
        return flask_response(self._answer(request, endpoint, arguments))

    def _answer(self, request: Request, endpoint: Endpoint, arguments: Mapping[str, str]) -> HttpAnswer:
        plain = None
        try:
            body = limited_body(request, self.route.max_bytes)
            plain = plain_request(request, body=body, jobs_url=f"{prefix_of(request, self.route.rule)}/jobs")
            return event_loop.wait(endpoint(plain, **arguments), needs_event_loop=self.needs_event_loop)
        except HTTPException:
            raise
        except Exception as error:  # noqa: BLE001  # each becomes an answer, and is logged
            return error_answer(error, plain or plain_request(request))

    def _allow(self) -> dict[str, str]:
        methods = [
            name for method in self.route.endpoints for name in ((method, "HEAD") if method == "GET" else (method,))
        ]
        return {"Allow": ", ".join((*methods, "OPTIONS"))}


def _view_function(view: _View) -> Callable[..., ResponseReturnValue]:
    def function(**arguments: str) -> ResponseReturnValue:
        return view.respond(**arguments)

    # Extensions of Flask know a view by its names (Flask-Limiter does), which an object that can be called lacks.
    function.__name__ = view.route.name
    function.__qualname__ = f"portico_webhook.{view.route.name}"
    return function


class _JsonResponse(Response):
    """It has all its headers from the start, and they are as they have to be."""

    def get_wsgi_headers(self, environ: Mapping[str, Any]) -> Headers:  # noqa: ARG002  # werkzeug's
        return self.headers


def flask_response(answer: HttpAnswer) -> Response:
    """Return an answer as Flask's."""
    headers = [("Content-Type", answer.content_type), *answer.headers.items(), ("Cache-Control", "no-store")]
    return _JsonResponse(answer.body(), status=answer.status, headers=headers)


def _error_response(error: Exception) -> ResponseReturnValue:
    if isinstance(error, HTTPException):
        if not is_error(error):
            return error.get_response()
        error = problem_of(error)
    return flask_response(error_answer(error, plain_request(request_ctx.request)))


def problem_of(error: HTTPException) -> Problem:
    """Say what a werkzeug exception says, as a problem."""
    kept = {name: value for name, value in error.get_headers() if name.lower() != "content-type"}
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    return Problem(status, error.description or HTTPStatus(status).phrase, headers=kept)


def is_error(error: HTTPException) -> bool:
    """Whether a werkzeug exception is an error at all: redirects and ready-made responses are raised as such too."""
    return error.response is None and error.code is not None and error.code >= HTTPStatus.BAD_REQUEST
