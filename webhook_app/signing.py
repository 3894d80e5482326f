"""Signing as senders do, to try an address out."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from portico_celery.adapters.job_trigger.webhook_trigger.verification.standard_webhooks import signature_header

Signer = Callable[[str, bytes, str, str], dict[str, str]]


def signed_headers(scheme: str, secret: str, body: bytes, *, timestamp: str, delivery_id: str) -> dict[str, str]:
    """Return the headers of a delivery. Raises ConfigurationError for a secret that can't be one."""
    return SIGNERS[scheme](secret, body, timestamp, delivery_id)


def _standard(secret: str, body: bytes, timestamp: str, delivery_id: str) -> dict[str, str]:
    webhook_id = f"msg_{delivery_id}"
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature_header(secret, webhook_id, timestamp, body),
    }


def _github(secret: str, body: bytes, _timestamp: str, delivery_id: str) -> dict[str, str]:
    return {
        "X-Hub-Signature-256": f"sha256={_hex(secret, body)}",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": delivery_id,
    }


def _stripe(secret: str, body: bytes, timestamp: str, _delivery_id: str) -> dict[str, str]:
    return {"Stripe-Signature": f"t={timestamp},v1={_hex(secret, f'{timestamp}.'.encode() + body)}"}


def _slack(secret: str, body: bytes, timestamp: str, _delivery_id: str) -> dict[str, str]:
    signature = _hex(secret, f"v0:{timestamp}:".encode() + body)
    return {"X-Slack-Request-Timestamp": timestamp, "X-Slack-Signature": f"v0={signature}"}


def _hex(secret: str, message: bytes) -> str:
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


SIGNERS: dict[str, Signer] = {
    "standard-webhooks": _standard,
    "github": _github,
    "stripe": _stripe,
    "slack": _slack,
}
