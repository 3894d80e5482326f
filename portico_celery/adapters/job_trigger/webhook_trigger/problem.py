"""Errors as ``application/problem+json`` (RFC 9457). None of them repeats what the client sent."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import HttpAnswer
from portico_celery.exceptions import PorticoError

PROBLEM_JSON = "application/problem+json"
Errors = Mapping[str, list[str]]


class Problem(PorticoError):
    """An answer other than success. ``errors`` says what is wrong with each field; ``reason`` is for the log alone."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Errors | None = None,
        headers: Mapping[str, str] | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(reason or detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})

    def document(self) -> dict[str, object]:
        """Return what the client reads of it."""
        body: dict[str, object] = {
            "type": "about:blank",
            "title": _title(self.status),
            "status": self.status,
            "detail": self.detail,
        }
        return body if self.errors is None else {**body, "errors": self.errors}

    def answer(self, request_id: str | None = None) -> HttpAnswer:
        """Return the answer for the client; the request's id is what it can ask the operator about."""
        named = {} if request_id is None else {"request_id": request_id}
        return HttpAnswer(
            status=self.status,
            document={**self.document(), **named},
            headers=self.headers,
            content_type=PROBLEM_JSON,
        )


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
