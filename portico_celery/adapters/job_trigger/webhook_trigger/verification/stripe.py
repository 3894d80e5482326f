"""Stripe's webhooks: https://docs.stripe.com/webhooks#verify-manually"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import HttpRequest
from portico_celery.adapters.job_trigger.webhook_trigger.verification.scheme import NotVerified, text_member
from portico_celery.adapters.job_trigger.webhook_trigger.verification.signatures import (
    digests,
    few,
    from_hex,
    require_match,
    require_recent,
    secret_list,
)


class Stripe:
    """``secrets`` are the endpoint's ``whsec_...``, which Stripe uses as text."""

    # How many endpoints are still to be told.
    counters = ("pending_webhooks",)

    def __init__(self, secrets: str | Sequence[str]) -> None:
        self._secrets = [secret.encode() for secret in secret_list(secrets, "Stripe")]

    def verify(self, request: HttpRequest, *, now: datetime) -> None:
        """Check the ``v1`` parts of ``Stripe-Signature`` over time and body. Raises NotVerified."""
        parts = [part.partition("=") for part in (request.header("Stripe-Signature") or "").split(",")]
        times = [value for name, _, value in parts if name == "t"]
        if len(times) != 1:
            raise NotVerified("Stripe-Signature must name one time")
        timestamp = require_recent(times[0], now)
        given = few([value for name, _, value in parts if name == "v1"])
        message = f"{timestamp}.".encode() + request.body
        require_match(digests(self._secrets, message), [from_hex(one) for one in given])

    def event_type(self, _request: HttpRequest, document: Mapping[str, Any]) -> str | None:
        """Return the member ``type``: invoice.paid, ..."""
        return text_member(document, "type")

    def delivery_id(self, _request: HttpRequest, document: Mapping[str, Any]) -> str | None:
        """Return the event's ``id``."""
        return text_member(document, "id")

    def handshake(self, _document: Mapping[str, Any]) -> None:
        """There is none."""
