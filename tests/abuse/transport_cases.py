"""Rows of the transport: methods, addresses, lengths, encodings and media."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Callable, Iterator

from tests.abuse.case import JOBS, REPORT, Case, ask, body, create, with_key
from tests.abuse.server import Answer
from tests.abuse.target import Target


def transport_cases() -> Iterator[Case]:
    for method in ("PUT", "PATCH", "DELETE", "TRACE"):
        yield Case(1, method, ask(method, JOBS), (405,))
    yield Case(1, "HEAD", lambda target: target.server.send("HEAD", JOBS), (401,))
    for path in (
        "/nowhere",
        "/webhooks/%2e%2e/jobs",
        "/webhooks//jobs",
        "/webhooks/jobs%00",
        "/%ff",
        "/webhooks/nosource",
    ):
        yield Case(2, path, create(body(REPORT), path=path), (404, 405))
    yield Case(3, "announced too large", create(b"", ("Content-Length", "65537")), (413,))
    yield Case(3, "announced absurdly", create(b"", ("Content-Length", str(10**15))), (413,))
    yield Case(3, "one byte too large", create(body(REPORT).ljust(65_537)), (413,))
    for encoding in ("gzip", "deflate", "br", "identity, gzip"):
        content = gzip.compress(b" " * 10_000_000)[:60_000]
        yield Case(6, f"encoded {encoding}", create(content, ("Content-Encoding", encoding)), (415,))
    for media in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
        "json",
        "*/*",
    ):
        headers = [("Content-Type", media)]
        yield Case(7, f"media {media}", with_key(body(REPORT), headers), (415,))
    yield Case(7, "no media", with_key(body(REPORT), []), (415,))
    for media in (
        "application/vnd.api+json",
        "application/json; charset=utf-7",
        "application/json; charset=utf-16",
        "application/json; v=1",
        "application/json; charset*=utf-8''utf-8",
        "application/json; charset*0*=utf-8",
    ):
        yield Case(8, f"media {media}", with_key(body(REPORT), [("Content-Type", media)]), (415,))


def framing_cases() -> Iterator[Case]:
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    both = ("Content-Length: 5", "Transfer-Encoding: chunked")
    yield Case(4, "chunked beyond the limit", framed("Transfer-Encoding: chunked", rest=chunk * 3), (413, 0))
    yield Case(4, "chunks that are none", framed("Transfer-Encoding: chunked", rest=b"zz\r\n"), (400,))
    yield Case(5, "shorter than announced", _cut_off, (400, 408, 0))
    yield Case(9, "two lengths", framed("Content-Length: 5", "Content-Length: 6", rest=b"{}   "), (400,))
    yield Case(9, "length and chunked", framed(*both, rest=b"0\r\n\r\n"), (400,))
    for name in ("-1", "1_0", "0x10", " ", "+5"):
        yield Case(9, f"length {name!r}", framed(f"Content-Length: {name}", rest=b"{}"), (400,))
    yield Case(9, "unknown transfer encoding", framed("Transfer-Encoding: xchunked", rest=b"{}"), (400, 501))
    yield Case(9, "space before the colon", framed("X-A : b"), (400,))
    yield Case(10, "200 headers", framed(*[f"X-{n}: a" for n in range(200)]), (400, 431))
    yield Case(10, "a header of 64 KiB", framed("X-A: " + "a" * 65_536), (400, 431, 0))
    yield Case(
        10,
        "a line of 64 KiB",
        lambda target: target.server.raw(b"GET /" + b"a" * 65_536 + b" HTTP/1.1\r\n\r\n"),
        (400, 414, 431, 0),
    )


def _head(target: Target, *more: str) -> bytes:
    lines = [f"POST {JOBS} HTTP/1.1", "Host: x", "Content-Type: application/json", ": ".join(target.as_shop), *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def framed(*headers: str, rest: bytes = b"") -> Callable[[Target], Answer]:
    """Send a request whose framing is ours to get wrong."""
    return lambda target: target.server.raw(_head(target, *headers) + rest)


def _cut_off(target: Target) -> Answer:
    content = _head(target, "Content-Length: 100") + b"{}"
    with socket.create_connection(("127.0.0.1", target.server.port), timeout=20) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        first = connection.recv(65_536)
    return Answer(int(first.split(b" ", 2)[1]) if first else 0, {}, first)
