"""A bad request, or several that belong together: what is sent, and what is right. By the abuse programme's rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.abuse.server import Answer, Headers
from tests.abuse.target import Target

JSON = ("Content-Type", "application/json")
JOBS = "/webhooks/jobs"
MAIL: dict[str, Any] = {"job_type": "email.send", "payload": {"to": "ann@example.com"}}
REPORT: dict[str, Any] = {"job_type": "report.daily", "payload": {}}

Statuses = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One request. ``row`` is the group. 0 among the statuses is a connection closed without an answer."""

    row: int
    name: str
    send: Callable[[Target], Answer]
    expected: Statuses

    def __str__(self) -> str:
        return f"{self.row:02d} {self.name}"


@dataclass(frozen=True)
class Story:
    """Requests that belong together, with the statuses that are right for each, and the number of jobs they create.

    ``faults`` says what else is wrong with the answers.
    """

    row: int
    name: str
    send: Callable[[Target], Sequence[Answer]]
    expected: Sequence[Statuses]
    jobs: int
    faults: Callable[[Sequence[Answer]], list[str]] = lambda _answers: []

    def __str__(self) -> str:
        return f"{self.row:02d} {self.name}"


def in_order(*statuses: int) -> Sequence[Statuses]:
    """Say of each answer which single status is right."""
    return [(status,) for status in statuses]


def body(document: Any) -> bytes:
    """Write a document."""
    return json.dumps(document).encode()


def create(content: bytes, *more: tuple[str, str], path: str = JOBS) -> Callable[[Target], Answer]:
    """Post a body as a known caller."""
    return lambda target: target.server.send("POST", path, content, [JSON, target.as_shop, *more])


def with_headers(content: bytes, headers: Headers, path: str = JOBS) -> Callable[[Target], Answer]:
    """Post a body with these headers and no others."""
    return lambda target: target.server.send("POST", path, content, list(headers))


def with_key(content: bytes, headers: Headers) -> Callable[[Target], Answer]:
    """Post as a known caller, with no header but these."""
    return lambda target: target.server.send("POST", JOBS, content, [*headers, target.as_shop])


def deliver(source: str, content: bytes, headers: dict[str, str]) -> Callable[[Target], Answer]:
    """Deliver an event."""
    return with_headers(content, [JSON, *headers.items()], path=f"/webhooks/{source}")


def ask(method: str, path: str) -> Callable[[Target], Answer]:
    """Ask for something as a known caller, with no body."""
    return lambda target: target.server.send(method, path, b"", [target.as_shop])


def delivery(source: str, content: bytes, headers: Callable[[], dict[str, str]]) -> Callable[[Target], Answer]:
    """Deliver an event whose headers are made when it is sent: their time counts."""
    return lambda target: deliver(source, content, headers())(target)
