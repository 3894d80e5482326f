"""Which answer an exception becomes, and what the log says of it."""

from __future__ import annotations

import json
from http import HTTPStatus

from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import HttpAnswer, HttpRequest
from portico_celery.adapters.job_trigger.webhook_trigger.job_creation import type_refused
from portico_celery.adapters.job_trigger.webhook_trigger.problem import Problem
from portico_celery.exceptions import NotSupported, StoreUnavailable, UnknownJobType, ValidationError
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

_RETRY_AFTER = {"Retry-After": "5"}
_MAX_LOGGED_CHARS = 200


def error_answer(error: Exception, request: HttpRequest) -> HttpAnswer:
    """Turn whatever was raised into an answer, and log it."""
    problem = problem_for(error, creating=request.method == "POST")
    _log(error, problem, request)
    return problem.answer(request.request_id)


def problem_for(error: Exception, *, creating: bool) -> Problem:
    """Say what an exception means for the client."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, UnknownJobType):
        return type_refused()
    if isinstance(error, ValidationError):
        # Its message may show what was sent, so only the log has it.
        return Problem(HTTPStatus.BAD_REQUEST, "The job can't be accepted as it is; the server's log says why.")
    if isinstance(error, NotSupported):
        detail = "The job queue behind this webhook can't do that."
        return Problem(HTTPStatus.NOT_IMPLEMENTED, detail, reason=str(error))
    if isinstance(error, StoreUnavailable):
        detail = "The job store did not answer"
        detail += "; it is not known whether the job was created." if creating else "."
        return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=_RETRY_AFTER)
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "The request failed; the server's log says why.")


def _log(error: Exception, problem: Problem, request: HttpRequest) -> None:
    creating = request.method == "POST"
    if isinstance(error, Problem | ValidationError):
        if creating and problem.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            # As JSON, and cut: the names of unknown members are the client's own.
            named = {"fields": json.dumps(list(problem.errors))[:_MAX_LOGGED_CHARS]} if problem.errors else {}
            logger.warning(
                "invalid_webhook_request",
                status=problem.status,
                error=_one_line(str(error)),
                request_id=request.request_id,
                **named,
            )
    elif isinstance(error, StoreUnavailable):
        logger.warning(
            "webhook_store_unavailable", method=request.method, error=str(error), request_id=request.request_id
        )
    else:
        event = "webhook_job_creation_failed" if creating else "webhook_job_read_failed"
        logger.error(event, request_id=request.request_id, exc_info=error)


def _one_line(text: str) -> str:
    return json.dumps(text)[1:-1][:_MAX_LOGGED_CHARS]
