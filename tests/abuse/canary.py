"""Secrets, and the requests in which they travel: those that are taken, and those that are refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from tests.abuse.case import JOBS, JSON, REPORT, body, create, deliver
from tests.abuse.server import Answer
from tests.abuse.target import Target
from tests.abuse.target_config import OLD_SECRET, PLAIN_SECRET, SECRET
from webhook_app.signing import signed_headers

PLANTED = "canary-7b1f"
#: What hides a member from Celery's events is its name. The others are shown, for who has to find a job again.
PAYLOAD: dict[str, Any] = {
    "shown": "in-flower",
    "password": PLANTED,
    "account": {"API_Token": PLANTED, "Authorization": [PLANTED]},
    "cards": [{"client_secret": {"value": PLANTED}}, {"passwd": PLANTED, "apikey": PLANTED}],
}


class Canary:
    """Plants secrets. ``secrets`` are all of them; ``answers`` what came of it; ``job_ids`` those of the jobs."""

    def __init__(self, target: Target) -> None:
        self._target = target
        keys = (target.as_shop, target.as_other, target.as_mailer, target.expired)
        self.secrets = {PLANTED, SECRET, SECRET[6:], OLD_SECRET, *(key[1].removeprefix("Bearer ") for key in keys)}
        self.answers: list[Answer] = []
        self.job_ids: set[str] = set()

    def plant(self) -> None:
        """Send all requests once."""
        accepted = [send(self._target) for send in (*self._posts(), *self._deliveries())]
        assert {answer.status for answer in accepted} == {202}
        ids = {answer.document["job_id"] for answer in accepted}
        refused = [send(self._target) for send in self._refused()]
        assert all(400 <= answer.status < 500 for answer in refused)
        shown = [self._target.server.send("GET", f"{JOBS}/{job_id}", b"", [self._target.as_shop]) for job_id in ids]
        self.job_ids |= ids
        self.answers += [*accepted, *refused, *shown]

    @staticmethod
    def _posts() -> list[Callable[[Target], Answer]]:
        return [
            create(body({**REPORT, "payload": PAYLOAD})),
            create(body({**REPORT, "payload": {**PAYLOAD, "fails": True}, "max_retries": 0})),
            create(body({**REPORT, "payload": {**PAYLOAD, "text": "a" * 1_000}})),
        ]

    def _deliveries(self) -> list[Callable[[Target], Answer]]:
        event = body({"type": "a", "id": uuid4().hex, **PAYLOAD})
        sends = []
        for source, scheme, secret in (
            ("standard", "standard-webhooks", SECRET),
            ("github", "github", PLAIN_SECRET),
            ("stripe", "stripe", PLAIN_SECRET),
            ("slack", "slack", PLAIN_SECRET),
        ):
            stamp = str(int(time.time()))
            headers = signed_headers(scheme, secret, event, timestamp=stamp, delivery_id=uuid4().hex)
            self.secrets |= {value for name, value in headers.items() if "signature" in name.lower()}
            sends.append(deliver(source, event, headers))
        return sends

    @staticmethod
    def _refused() -> list[Callable[[Target], Answer]]:
        signed = [
            ("github", {"X-Hub-Signature-256": f"sha256={PLANTED}"}),
            ("stripe", {"Stripe-Signature": f"t={int(time.time())},v1={PLANTED}"}),
            ("slack", {"X-Slack-Request-Timestamp": PLANTED, "X-Slack-Signature": PLANTED}),
            ("standard", {"webhook-id": PLANTED, "webhook-timestamp": "1", "webhook-signature": f"v1,{PLANTED}"}),
        ]
        key = ("Authorization", f"Bearer {PLANTED}")
        return [
            create(body({"job_type": PLANTED, "payload": PLANTED})),
            create(body({**REPORT, "queue_name": PLANTED, "scheduled_at": PLANTED})),
            create(body(REPORT), ("Idempotency-Key", f"{PLANTED} {PLANTED}")),
            create(b'{"' + PLANTED.encode() + b'": ' + PLANTED.encode()),
            lambda target: target.server.send("POST", f"{JOBS}?key={PLANTED}", b"{}", [JSON, key]),
            lambda target: target.server.send("POST", JOBS, b"{}", [JSON, ("Authorization", f"Basic {PLANTED}")]),
            *(deliver(source, b"{}", headers) for source, headers in signed),
        ]
