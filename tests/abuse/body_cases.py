"""Rows of the body: idempotency keys, JSON, fields, and the addresses of jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.abuse.case import MAIL, REPORT, Case, body, create
from tests.abuse.forbidden_urls import FORBIDDEN


def idempotency_cases() -> Iterator[Case]:
    for key in ("", "x" * 256, "a b", "a\tb", "a,b", "\xe9"):
        yield Case(29, f"key {key[:4]!r}", create(body(REPORT), ("Idempotency-Key", key)), (400,))
    yield Case(29, "two keys", create(body(REPORT), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")), (400,))


def json_cases() -> Iterator[Case]:
    for content in (b"", b"   ", b"{}x", b"{'a': 1}", b'{"a": 1} // no', b"{", b'{"a": 1,}', b"\x00"):
        yield Case(32, f"{content!r}", create(content), (400,))
    for content in (b"[]", b'"a"', b"5", b"null", b"true"):
        yield Case(33, f"{content!r}", create(content), (400,))
    for number in ("NaN", "Infinity", "-Infinity", "1e400", "-1e400"):
        yield Case(34, number, create(_payload(f'{{"n": {number}}}')), (400,))
    yield Case(
        35, "job_type twice", create(b'{"job_type": "report.daily", "job_type": "report.daily", "payload": {}}'), (400,)
    )
    yield Case(35, "a member twice", create(_payload('{"a": 1, "a": 2}')), (400,))
    for depth in (33, 5_000, 30_000):
        yield Case(36, f"depth {depth}", create(_payload("[" * depth + "]" * depth)), (400,))
    yield Case(36, "never closed", create(b"[" * 60_000), (400,))
    for digits in (21, 4_300, 5_000, 60_000):
        yield Case(37, f"{digits} digits", create(_payload(f'{{"n": {"1" * digits}}}')), (400,))
    for text in (r"\ud800", r"\udc00", r"\u0000", r"\ud83d\u0041"):
        yield Case(38, text, create(_payload(f'{{"t": "{text}"}}')), (400,))
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-32"):
        yield Case(39, encoding, create(json.dumps(REPORT).encode(encoding)), (400,))
    many = ",".join(f'"{n}":0' for n in range(10_000))[:60_000].rpartition(",")[0]
    yield Case(40, "many members and more values", create(_payload("[" + "0," * 20_000 + "0]")), (400,))
    yield Case(40, "thousands of unknown members", create(b"{" + many.encode() + b"}"), (400,))


def _payload(text: str) -> bytes:
    return b'{"job_type": "report.daily", "payload": ' + text.encode() + b"}"


def field_cases() -> Iterator[Case]:
    for name in (
        "status",
        "id",
        "created_by",
        "retry_count",
        "attempt",
        "__proto__",
        "metadata",
        "job_id",
        "idempotency_key",
    ):
        yield Case(41, name, create(body({**REPORT, name: 1})), (400,))
    for value in (None, 5, "", "x" * 129, "Email Send", "a..b", ".a", "report.daily\n", "é", ["a"]):
        yield Case(42, f"job_type {str(value)[:8]!r}", create(body({**REPORT, "job_type": value})), (400,))
    yield Case(42, "no job_type", create(body({"payload": {}})), (400,))
    for queue in ("other", "celery.pidbox", "../x", "amq.direct", "a b", "", 5, "x" * 300, "celeryev", "unacked"):
        yield Case(44, f"queue {str(queue)[:8]!r}", create(body({**REPORT, "queue_name": queue})), (400,))
    wrong: list[tuple[str, Any]] = [
        ("priority", 1.5),
        ("priority", True),
        ("priority", "high"),
        ("priority", 2**31),
        ("max_retries", 26),
        ("max_retries", -1),
    ]
    for name, value in wrong:
        yield Case(45, f"{name} {value}", create(body({**REPORT, name: value})), (400,))
    for moment in (
        "2031-01-01T00:00:00",
        "9999-01-01T00:00:00Z",
        "2000-01-01T00:00:00Z",
        "2027-02-30T00:00:00Z",
        "soon",
        5,
        "",
    ):
        yield Case(46, f"scheduled_at {moment}", create(body({**REPORT, "scheduled_at": moment})), (400,))
    payloads: list[Any] = [{}, {"to": "nobody"}, {"to": 5}, {"to": "ann@example.com", "bcc": "x"}, [], "x", None]
    for payload in payloads:
        yield Case(47, f"payload {payload}", create(body({**MAIL, "payload": payload})), (400,))
    for url in FORBIDDEN:
        payload = {**MAIL["payload"], "callback": url}
        yield Case(48, f"callback {url}", create(body({**MAIL, "payload": payload})), (400,))
