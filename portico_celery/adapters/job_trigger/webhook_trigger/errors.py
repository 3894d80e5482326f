"""Which answer an exception becomes, and what the log says of it."""

from __future__ import annotations

import json
from http import HTTPStatus

from flask import request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from portico_celery.adapters.job_trigger.webhook_trigger.problem import Problem, is_error, problem_of
from portico_celery.exceptions import StoreUnavailable, UnknownJobType, ValidationError
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

_RETRY_AFTER = {"Retry-After": "5"}
_MAX_LOGGED_CHARS = 200


def trigger_stopped() -> Problem:
    """Return the answer of a trigger that is not running."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE, "The webhook does not take requests at the moment.", headers=_RETRY_AFTER
    )


def error_response(error: Exception) -> ResponseReturnValue:
    """Turn whatever a view raised into an answer."""
    if isinstance(error, HTTPException) and not is_error(error):
        return error.get_response()
    problem = _problem(error)
    _log(error, problem)
    return problem.response()


def _problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        return problem_of(error)
    if isinstance(error, UnknownJobType):
        # The same answer whether the type is registered or not: it is nobody's business outside.
        return Problem(HTTPStatus.FORBIDDEN, "This webhook may not create jobs of this type.")
    if isinstance(error, ValidationError):
        # Its message may show what was sent, so only the log has it.
        return Problem(HTTPStatus.BAD_REQUEST, "The job can't be accepted as it is; the server's log says why.")
    if isinstance(error, StoreUnavailable):
        return Problem(HTTPStatus.SERVICE_UNAVAILABLE, _store_unavailable(), headers=_RETRY_AFTER)
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "The request failed; the server's log says why.")


def _store_unavailable() -> str:
    if request.method == "POST":
        return "The job store did not answer; it is not known whether the job was created."
    return "The job store did not answer."


def _log(error: Exception, problem: Problem) -> None:
    creating = request.method == "POST"
    if isinstance(error, Problem | HTTPException | ValidationError):
        if creating and problem.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            # As JSON, and cut: the names of unknown members are the client's own.
            named = {"fields": json.dumps(list(problem.errors))[:_MAX_LOGGED_CHARS]} if problem.errors else {}
            logger.warning("invalid_webhook_request", status=problem.status, error=str(error), **named)
    elif isinstance(error, StoreUnavailable):
        logger.warning("webhook_store_unavailable", method=request.method, error=str(error))
    else:
        logger.error("webhook_job_creation_failed" if creating else "webhook_job_read_failed", exc_info=error)
