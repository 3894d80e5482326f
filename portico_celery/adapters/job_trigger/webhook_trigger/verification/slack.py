"""Slack's Events API: https://docs.slack.dev/authentication/verifying-requests-from-slack"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import HttpRequest
from portico_celery.adapters.job_trigger.webhook_trigger.verification.scheme import NotVerified, text_member
from portico_celery.adapters.job_trigger.webhook_trigger.verification.signatures import (
    digests,
    from_hex,
    require_match,
    require_recent,
    secret_list,
)

_VERSION = "v0="


class Slack:
    """``secrets`` are the app's signing secrets."""

    counters = ()

    def __init__(self, secrets: str | Sequence[str]) -> None:
        self._secrets = [secret.encode() for secret in secret_list(secrets, "Slack")]

    def verify(self, request: HttpRequest, *, now: datetime) -> None:
        """Check ``X-Slack-Signature`` over time and body. Raises NotVerified."""
        timestamp = require_recent(request.header("X-Slack-Request-Timestamp"), now)
        header = request.header("X-Slack-Signature") or ""
        if not header.startswith(_VERSION):
            raise NotVerified("X-Slack-Signature is missing or malformed")
        message = f"v0:{timestamp}:".encode() + request.body
        require_match(digests(self._secrets, message), [from_hex(header.removeprefix(_VERSION))])

    def event_type(self, _request: HttpRequest, document: Mapping[str, Any]) -> str | None:
        """Return the type of the event inside the envelope, or of the envelope."""
        event = document.get("event")
        return text_member(event if isinstance(event, dict) else document, "type")

    def delivery_id(self, _request: HttpRequest, document: Mapping[str, Any]) -> str | None:
        """Return the envelope's ``event_id``."""
        return text_member(document, "event_id")

    def handshake(self, document: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the challenge by which Slack checks a new address."""
        challenge = text_member(document, "challenge")
        return {"challenge": challenge} if document.get("type") == "url_verification" and challenge else None
