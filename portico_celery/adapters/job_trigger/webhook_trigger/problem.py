"""Errors as ``application/problem+json`` (RFC 9457). None of them repeats what the client sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

from flask import Response
from werkzeug.exceptions import HTTPException

from portico_celery.exceptions import PorticoError

Errors = Mapping[str, list[str]]


class Problem(PorticoError):
    """An answer other than success. ``errors`` says what is wrong with each field.

    No werkzeug exception, so that the error pages of the application it is mounted in don't take its place.
    """

    def __init__(
        self, status: int, detail: str, *, errors: Errors | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return the answer for the client."""
        body: dict[str, object] = {
            "type": "about:blank",
            "title": _title(self.status),
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors is not None:
            body["errors"] = self.errors
        response = Response(json.dumps(body), status=self.status, content_type="application/problem+json")
        response.headers.update(self.headers)
        response.headers["Cache-Control"] = "no-store"
        return response


def problem_of(error: HTTPException) -> Problem:
    """Say what a werkzeug exception says, as a problem."""
    kept = {name: value for name, value in error.get_headers() if name.lower() != "content-type"}
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    return Problem(status, error.description or _title(status), headers=kept)


def is_error(error: HTTPException) -> bool:
    """Whether a werkzeug exception is an error at all: redirects and ready-made responses are raised as such too."""
    return error.response is None and error.code is not None and error.code >= HTTPStatus.BAD_REQUEST


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
