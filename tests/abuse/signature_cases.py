"""Rows of authentication: keys, and the signatures of named senders."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import uuid4

from tests.abuse.case import JOBS, JSON, REPORT, Case, body, create, deliver, delivery, with_headers
from tests.abuse.server import Answer
from tests.abuse.target import Target
from tests.abuse.target_config import OLD_SECRET, RETIRED_SECRET, SECRET
from webhook_app.signing import signed_headers

EVENT = body({"type": "a"})


def key_cases() -> Iterator[Case]:
    good = body(REPORT)
    yield Case(11, "no key", with_headers(good, [JSON]), (401,))
    yield Case(11, "no key for a list", lambda t: t.server.send("GET", JOBS), (401,))
    yield Case(12, "expired", lambda t: t.server.send("POST", JOBS, good, [JSON, t.expired]), (401,))
    yield Case(
        12,
        "wrong secret",
        lambda t: t.server.send("POST", JOBS, good, [JSON, (t.as_shop[0], t.as_shop[1][:-4] + "AAAA")]),
        (401,),
    )
    for text in (
        "Bearer",
        "Bearer ",
        "Basic c2hvcDpz",
        "Bearer pk_0_" + "a" * 43,
        "Bearer " + "a" * 4000,
        "Bearer pk_\xff_x",
        "bearer,bearer",
        "Bearer pk__",
    ):
        yield Case(12, f"key {text[:20]}", with_headers(good, [JSON, ("Authorization", text)]), (401,))
    yield Case(12, "two keys", lambda t: t.server.send("POST", JOBS, good, [JSON, t.as_shop, t.as_shop]), (401,))
    yield Case(
        13, "key in the query", lambda t: t.server.send("POST", f"{JOBS}?key={t.as_shop[1][7:]}", good, [JSON]), (401,)
    )
    yield Case(13, "key in the body", with_headers(body({**REPORT, "key": "pk"}), [JSON]), (401,))
    yield Case(43, "a type not for this key", lambda t: t.server.send("POST", JOBS, good, [JSON, t.as_mailer]), (403,))
    yield Case(43, "a type not allowed", create(body({**REPORT, "job_type": "shop.close"})), (403,))


def standard(
    secret: str = SECRET, *, content: bytes = EVENT, offset: int = 0, stamp: str | None = None, **changed: str
) -> dict[str, str]:
    """Sign by Standard Webhooks; ``changed`` replaces headers afterwards."""
    timestamp = str(int(time.time()) + offset) if stamp is None else stamp
    headers = signed_headers("standard-webhooks", secret, content, timestamp=timestamp, delivery_id=uuid4().hex)
    return {**headers, **{name.replace("_", "-"): value for name, value in changed.items()}}


def standard_cases() -> Iterator[Case]:
    def late(**options: Any) -> Callable[[Target], Answer]:
        # Signed when it is sent: the time counts.
        return delivery("standard", EVENT, partial(standard, **options))

    def without(name: str) -> Callable[[Target], Answer]:
        return delivery("standard", EVENT, lambda: {n: v for n, v in standard().items() if n != name})

    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        yield Case(14, f"without {name}", without(name), (401,))
    yield Case(14, "without any", deliver("standard", EVENT, {}), (401,))
    for signature in ("v1", "v1,a,b", "v1,AAAA  v1,AAAA", "v1,***", "v1,\xe9", ",", "v1,", "v0,AAAA", "none"):
        yield Case(15, f"signature {signature}", late(webhook_signature=signature), (401,))
    yield Case(16, "junk inside base64", delivery("standard", EVENT, _with_junk), (401,))
    yield Case(17, "many signatures", late(webhook_signature=" ".join(["v1,AAAA"] * 900)), (401,))
    yield Case(
        17, "ten thousand signatures", late(webhook_signature=" ".join(["v1,AAAA"] * 10_000)), (400, 401, 431, 0)
    )
    for offset in (-302, 302, -(10**6)):
        yield Case(18, f"{offset} s", late(offset=offset), (401,))
    for stamp in ("1.5", "1_0", "nan", "1e400", "1" * 40, "-1", "+1", "0x1", "\xb2"):
        yield Case(19, f"time {stamp[:8]}", late(stamp=stamp), (401,))
    yield Case(20, "one byte changed", delivery("standard", EVENT + b" ", standard), (401,))
    yield Case(20, "written anew", delivery("standard", b'{"type":"a"}', standard), (401,))
    yield Case(21, "another id", late(webhook_id="msg_other"), (401,))
    yield Case(21, "another source's secret", delivery("crm", EVENT, standard), (401,))
    yield Case(21, "an id with a dot", late(webhook_id="msg.1"), (401,))
    yield Case(23, "the new secret", late(), (202,))
    yield Case(23, "the old secret", late(secret=OLD_SECRET), (202,))
    yield Case(23, "the retired secret", late(secret=RETIRED_SECRET), (401,))
    for content in (b"\xff", b"", b"[]", b"null", b'{"a": NaN}'):
        yield Case(24, f"signed {content!r}", delivery("standard", content, partial(standard, content=content)), (400,))


def _with_junk() -> dict[str, str]:
    headers = standard()
    signature = headers["webhook-signature"]
    return {**headers, "webhook-signature": signature[:6] + "!!" + signature[6:]}


def other_signature_cases() -> Iterator[Case]:
    github = signed_headers("github", "s", EVENT, timestamp="0", delivery_id="d")
    digest = github["X-Hub-Signature-256"].removeprefix("sha256=")
    for name, value in (
        ("X-Hub-Signature", f"sha1={digest[:40]}"),
        ("X-Hub-Signature-256", f"none={digest}"),
        ("X-Hub-Signature-256", digest),
    ):
        yield Case(
            22, f"github {name} {value[:5]}", deliver("github", EVENT, {name: value, "X-GitHub-Event": "push"}), (401,)
        )
    now = str(int(time.time()))
    for value in (
        f"t={now},v0={digest}",
        f"t={now}",
        f"v1={digest}",
        f"t={now},t={now},v1={digest}",
        "t=,v1=",
        "=,=",
        ",",
    ):
        yield Case(22, f"stripe {value[:12]}", deliver("stripe", EVENT, {"Stripe-Signature": value}), (401,))
    for value in (f"v1={digest}", digest, "v0=", "v0=zz", f"v0={digest.upper()}"):
        headers = {"X-Slack-Request-Timestamp": now, "X-Slack-Signature": value}
        yield Case(22, f"slack {value[:6]}", deliver("slack", EVENT, headers), (401,))
