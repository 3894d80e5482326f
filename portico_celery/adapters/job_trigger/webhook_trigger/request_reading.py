"""From Flask's request to plain data, with no more of the body than is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge

from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import HttpRequest
from portico_celery.adapters.job_trigger.webhook_trigger.problem import Problem

# Without a header of their own in WSGI's environment.
_UNPREFIXED = ("CONTENT_TYPE", "CONTENT_LENGTH")
# As werkzeug quotes the paths that it builds.
_SAFE_IN_PATH = "!$&'()*+,/:;=@"


class WsgiHeaders(Mapping[str, str]):
    """A request's headers by their lower-case names, looked up where the server has put them."""

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        key = name.upper().replace("-", "_")
        return str(self._environ[key if key in _UNPREFIXED else f"HTTP_{key}"])

    def __iter__(self) -> Iterator[str]:
        for key, value in self._environ.items():
            if key.startswith("HTTP_"):
                yield key[5:].replace("_", "-").lower()
            elif key in _UNPREFIXED and value:
                yield key.replace("_", "-").lower()

    def __len__(self) -> int:
        return sum(1 for _ in self)


def plain_request(request: Request, *, body: bytes = b"", jobs_url: str = "") -> HttpRequest:
    """Return what the trigger reads of a request."""
    return HttpRequest(
        method=request.method,
        headers=WsgiHeaders(request.environ),
        body=body,
        remote_address=request.remote_addr or "",
        request_id=str(uuid4()),
        query=request.args.to_dict() if request.query_string else {},
        jobs_url=jobs_url,
    )


def prefix_of(request: Request, rule: str) -> str:
    """Return the path that the trigger's addresses begin with, which this request has come to by one of its rules."""
    whole = rule if request.url_rule is None else request.url_rule.rule
    return _quoted(request.root_path + whole.removesuffix(rule))


@lru_cache(maxsize=64)
def _quoted(path: str) -> str:
    return quote(path, safe=_SAFE_IN_PATH)


def limited_body(request: Request, max_bytes: int) -> bytes:
    """Return the whole body. Raises Problem: 413 where it is too large, 408 where it comes too slowly, 400."""
    host_limit = request.max_content_length
    limit = max_bytes if host_limit is None else min(max_bytes, host_limit)
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    # One byte more than allowed is let in: of a chunked body werkzeug cuts off what exceeds its limit without a word,
    # and what is left would pass for the whole.
    request.max_content_length = limit + 1
    body = _read(request, limit + 1)
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _read(request: Request, size: int) -> bytes:
    try:
        return request.stream.read(size)
    except RequestEntityTooLarge:
        raise
    except Exception as error:  # each server has errors of its own for what a client sends it
        # werkzeug may have put one of its own over it. webhook_app's gunicorn worker bounds the time.
        if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
            raise _too_slow() from None
        detail = "The body could not be read: it ended too early, or is not what its headers say."
        raise Problem(HTTPStatus.BAD_REQUEST, detail, headers={"Connection": "close"}) from error


def _too_slow() -> Problem:
    # What is left of the body must not be taken for the next request.
    return Problem(HTTPStatus.REQUEST_TIMEOUT, "The body took too long to arrive.", headers={"Connection": "close"})


def _too_large(limit: int) -> Problem:
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body may have at most {limit} bytes.")
