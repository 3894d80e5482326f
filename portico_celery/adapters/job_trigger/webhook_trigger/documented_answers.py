"""Answers as the OpenAPI document describes them, each with its headers."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from marshmallow import Schema

from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import JSON
from portico_celery.adapters.job_trigger.webhook_trigger.problem import PROBLEM_JSON

Answers = dict[str, Any]

_TEXT, _NUMBER = {"schema": {"type": "string"}}, {"schema": {"type": "integer"}}
_QUOTA = {f"RateLimit-{name}": _NUMBER for name in ("Limit", "Remaining", "Reset")}
# What an answer always has, and what it may have beside it.
_REQUIRED_HEADERS: dict[int, dict[str, Any]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": _TEXT},
    HTTPStatus.METHOD_NOT_ALLOWED: {"Allow": _TEXT},
    HTTPStatus.TOO_MANY_REQUESTS: {"Retry-After": _NUMBER},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": _NUMBER},
}
_HEADERS: dict[int, dict[str, Any]] = {
    HTTPStatus.OK: _QUOTA,
    HTTPStatus.ACCEPTED: {"Location": _TEXT, "Idempotency-Replayed": {"schema": {"const": "true"}}, **_QUOTA},
    HTTPStatus.TOO_MANY_REQUESTS: _QUOTA,
}


def success(description: str, schema: type[Schema] | dict[str, Any]) -> Answers:
    """Return the answer 200."""
    return _answer(HTTPStatus.OK, description, JSON, schema)


def accepted(schema: type[Schema]) -> Answers:
    """Return the answer 202."""
    return _answer(HTTPStatus.ACCEPTED, "Accepted: it is committed.", JSON, schema)


def problem(status: int) -> Answers:
    """Return the answer of an error."""
    return _answer(status, HTTPStatus(status).phrase, PROBLEM_JSON, {"$ref": "#/components/schemas/Problem"})


def _answer(status: int, description: str, content_type: str, schema: type[Schema] | dict[str, Any]) -> Answers:
    required = {name: {**what, "required": True} for name, what in _REQUIRED_HEADERS.get(status, {}).items()}
    headers = {**required, **_HEADERS.get(status, {})}
    answer = {"description": description, "content": {content_type: {"schema": schema}}}
    return {str(int(status)): {**answer, "headers": headers} if headers else answer}
