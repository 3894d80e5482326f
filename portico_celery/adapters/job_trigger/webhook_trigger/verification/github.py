"""GitHub's webhooks: https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import HttpRequest
from portico_celery.adapters.job_trigger.webhook_trigger.verification.scheme import NotVerified
from portico_celery.adapters.job_trigger.webhook_trigger.verification.signatures import (
    digests,
    from_hex,
    require_match,
    secret_list,
)

_ALGORITHM = "sha256="


class GitHub:
    """GitHub signs the body alone, with no time: what it delivered once is told by its delivery id."""

    counters = ()

    def __init__(self, secrets: str | Sequence[str]) -> None:
        self._secrets = [secret.encode() for secret in secret_list(secrets, "GitHub")]

    def verify(self, request: HttpRequest, *, now: datetime) -> None:  # noqa: ARG002  # GitHub signs no time
        """Check ``X-Hub-Signature-256``; the SHA-1 beside it counts for nothing. Raises NotVerified."""
        header = request.header("X-Hub-Signature-256") or ""
        if not header.startswith(_ALGORITHM):
            raise NotVerified("X-Hub-Signature-256 is missing or malformed")
        require_match(digests(self._secrets, request.body), [from_hex(header.removeprefix(_ALGORITHM))])

    def event_type(self, request: HttpRequest, _document: Mapping[str, Any]) -> str | None:
        """Return ``X-GitHub-Event``: push, issues, ..."""
        return request.header("X-GitHub-Event")

    def delivery_id(self, request: HttpRequest, _document: Mapping[str, Any]) -> str | None:
        """Return ``X-GitHub-Delivery``."""
        return request.header("X-GitHub-Delivery")

    def handshake(self, _document: Mapping[str, Any]) -> None:
        """There is none: a ping is an event."""
