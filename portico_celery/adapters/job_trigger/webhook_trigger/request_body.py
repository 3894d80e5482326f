"""From the HTTP request to the JSON value in it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Request

from portico_celery.adapters.job_trigger.webhook_trigger import strict_json
from portico_celery.adapters.job_trigger.webhook_trigger.problem import Problem


def json_body(request: Request, *, max_bytes: int) -> Any:
    """Return the JSON value of the request's body. Raises Problem: 415, 413 or 400."""
    _refuse_other_media(request)
    body = _body(request, max_bytes)
    try:
        return strict_json.load(body)
    except strict_json.InvalidJson as error:
        raise Problem(HTTPStatus.BAD_REQUEST, str(error)) from None


def _refuse_other_media(request: Request) -> None:
    parameters = {name.lower(): value.lower() for name, value in request.mimetype_params.items()}
    if request.mimetype != "application/json" or parameters not in ({}, {"charset": "utf-8"}):
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The content type must be application/json, in UTF-8.")
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "The body must not be compressed or otherwise encoded.",
            headers={"Accept-Encoding": "identity"},
        )


def _body(request: Request, max_bytes: int) -> bytes:
    host_limit = request.max_content_length
    limit = max_bytes if host_limit is None else min(max_bytes, host_limit)
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    # One byte more than allowed is let in: of a chunked body werkzeug cuts off what exceeds its limit without a word,
    # and what is left would pass for the whole.
    request.max_content_length = limit + 1
    body = request.get_data(cache=False)
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _too_large(limit: int) -> Problem:
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body may have at most {limit} bytes.")
