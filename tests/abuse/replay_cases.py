"""Rows of replays and idempotency: one job for one key, whoever sends it how often, one after the other or at once."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from uuid import uuid4

from tests.abuse.case import JOBS, JSON, MAIL, REPORT, Story, body, create, deliver, in_order
from tests.abuse.server import SECONDS, Answer, read_answer
from tests.abuse.target import Target
from tests.abuse.target_config import OLD_SECRET, PLAIN_SECRET, SECRET
from tests.abuse.under_way import has_read, held_jobs
from tests.waiting import eventually
from webhook_app.signing import signed_headers

EVENT, OTHER_EVENT = body({"type": "a", "id": "evt_1"}), body({"type": "b", "id": "evt_1"})
AT_ONCE = 200
IN_FLIGHT = 8
# 409 is what drafts say of a key whose first request is still under way. With one INSERT for each key it is not needed.
TAKEN_OR_CONFLICT = (202, 409)

Send = Callable[[Target], Sequence[Answer]]


def delivery_cases() -> Iterator[Story]:
    for offset in (-60, 0, 60):
        send = deliveries((SECRET, EVENT, 0), (SECRET, EVENT, offset))
        yield Story(25, f"signed anew, {offset} s off", send, in_order(202, 202), 1, one_created)
    rotated = deliveries((OLD_SECRET, EVENT, 0), (SECRET, EVENT, 1))
    yield Story(25, "signed anew, by the new secret", rotated, in_order(202, 202), 1, one_created)
    changed = deliveries((SECRET, EVENT, 0), (SECRET, OTHER_EVENT, 0), (SECRET, EVENT, 0))
    yield Story(26, "a delivery with another body", changed, in_order(202, 422, 202), 1, one_created)
    again = pushes(("1", EVENT), ("1", EVENT), ("1", EVENT))
    yield Story(30, "github, delivered again", again, in_order(202, 202, 202), 1, one_created)
    other = pushes(("1", EVENT), ("1", OTHER_EVENT))
    yield Story(30, "github, another event under the same id", other, in_order(202, 422), 1, one_created)
    # It signs no id: this is all that a receiver can do, and the documentation says so.
    recorded = pushes(("1", EVENT), ("2", EVENT))
    yield Story(30, "github, under another id", recorded, in_order(202, 202), 2, all_created)


def key_use_cases() -> Iterator[Story]:
    first, second = body(REPORT), body({**REPORT, "payload": {"a": 1}})
    yield Story(26, "the same again", posts(first, first), in_order(202, 202), 1, one_created)
    for other in (second, body({**REPORT, "priority": 1}), body(MAIL), first + b" "):
        yield Story(26, f"then {other[:40]!r}", posts(first, other, first), in_order(202, 422, 202), 1, one_created)
    yield Story(26, "after a refused one", posts(b"{}", first), in_order(400, 202), 1, all_created)
    yield Story(27, "while the first is in flight", in_flight, [TAKEN_OR_CONFLICT] * IN_FLIGHT, 1, one_created)
    yield Story(28, "by another", by_two, in_order(202, 202, 202, 202), 2, two_created)
    yield Story(31, f"{AT_ONCE} at once", at_once, [TAKEN_OR_CONFLICT] * AT_ONCE, 1, one_created)


def replays(answers: Sequence[Answer]) -> int:
    """Count the answers for jobs that were there before."""
    return sum(answer.headers.get("idempotency-replayed") == "true" for answer in answers)


def one_created(answers: Sequence[Answer]) -> list[str]:
    """Expect one answer to create the job, and to be told of the others that it was there before."""
    return _expect_created(1, answers)


def two_created(answers: Sequence[Answer]) -> list[str]:
    """Expect two answers to create jobs."""
    return _expect_created(2, answers)


def all_created(answers: Sequence[Answer]) -> list[str]:
    """Expect each answer to create a job of its own, where it creates any."""
    return _expect_created(sum(answer.status == 202 for answer in answers), answers)


def _expect_created(number: int, answers: Sequence[Answer]) -> list[str]:
    accepted = [answer for answer in answers if answer.status == 202]
    created = len(accepted) - replays(accepted)
    return [] if created == number else [f"{created} of {len(accepted)} say that they created a job"]


def deliveries(*signed: tuple[str, bytes, int]) -> Send:
    """Deliver events under one id, each signed by a secret, at a time some seconds from now."""

    def send(target: Target) -> list[Answer]:
        delivery_id, now, answers = uuid4().hex, int(time.time()), []
        for secret, content, offset in signed:
            stamp = str(now + offset)
            headers = signed_headers("standard-webhooks", secret, content, timestamp=stamp, delivery_id=delivery_id)
            answers.append(deliver("standard", content, headers)(target))
        return answers

    return send


def pushes(*delivered: tuple[str, bytes]) -> Send:
    """Deliver events as GitHub does, each under an id."""

    def send(target: Target) -> list[Answer]:
        run, answers = uuid4().hex, []
        for name, content in delivered:
            headers = signed_headers("github", PLAIN_SECRET, content, timestamp="0", delivery_id=f"{run}-{name}")
            answers.append(deliver("github", content, headers)(target))
        return answers

    return send


def posts(*contents: bytes) -> Send:
    """Post bodies with one key."""

    def send(target: Target) -> list[Answer]:
        key = a_key()
        return [create(content, key)(target) for content in contents]

    return send


def by_two(target: Target) -> list[Answer]:
    """Post with one key as two callers, in turn."""
    headers = [[JSON, caller, key] for key in [a_key()] for caller in (target.as_shop, target.as_other)]
    return [target.server.send("POST", JOBS, body(REPORT), one) for one in headers * 2]


def at_once(target: Target) -> list[Answer]:
    """Post very often at the same time, with one key."""
    key = a_key()
    with ThreadPoolExecutor(50) as threads:
        return list(threads.map(lambda _: create(body(REPORT), key)(target), range(AT_ONCE)))


def in_flight(target: Target) -> list[Answer]:
    """Post with one key while the first request has got as far as the store, and no further."""
    lines = [f"POST {JOBS} HTTP/1.1", "Host: x", *map(": ".join, (JSON, target.as_shop, a_key()))]
    head = "\r\n".join([*lines, f"Content-Length: {len(body(REPORT))}"])
    request = head.encode() + b"\r\n\r\n" + body(REPORT)
    with ExitStack() as open_ones:
        address = ("127.0.0.1", target.server.port)
        connections = [
            open_ones.enter_context(socket.create_connection(address, timeout=SECONDS)) for _ in range(IN_FLIGHT)
        ]
        with held_jobs(target.store) as held:
            connections[0].sendall(request)
            eventually(held.someone_waits, describe="the first at the store")
            for connection in connections[1:]:
                connection.sendall(request)
            # The store is given up after 2.3 s: on a machine that is too busy some come when the first is through.
            with suppress(AssertionError):
                eventually(lambda: all(map(has_read, connections)), 1.0, "all of them under way")
        return [read_answer(connection) for connection in connections]


def a_key() -> tuple[str, str]:
    """Return a key that nobody has used."""
    return "Idempotency-Key", uuid4().hex
