"""Requests, answers and addresses as plain data: all that the trigger knows of HTTP, whatever framework serves it."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

JSON = "application/json"


@dataclass(frozen=True, kw_only=True)
class HttpRequest:
    """``headers`` have lower-case names, and a header that came twice is one value, joined by commas, as WSGI has it.

    ``body`` is what was sent, byte by byte. ``jobs_url`` is the address of all jobs, as the client sees it.
    """

    method: str
    headers: Mapping[str, str]
    body: bytes
    remote_address: str
    request_id: str
    jobs_url: str = ""
    query: Mapping[str, str] = field(default_factory=dict)

    def header(self, name: str) -> str | None:
        """Return a header's value, or None."""
        return self.headers.get(name.lower())


@dataclass(frozen=True, kw_only=True)
class HttpAnswer:
    """A JSON document with its status. ``headers`` come on top of those that every answer has."""

    status: int
    document: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON

    def body(self) -> bytes:
        """Return the document as it travels."""
        return json.dumps(self.document).encode()


Endpoint = Callable[..., Coroutine[Any, Any, HttpAnswer]]
"""Answers an HttpRequest, and whatever of its address is variable."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """An address and, by method, what answers there. ``max_bytes`` is the limit of a body."""

    rule: str
    name: str
    endpoints: Mapping[str, Endpoint]
    max_bytes: int
