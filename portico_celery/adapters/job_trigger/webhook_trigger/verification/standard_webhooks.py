"""Standard Webhooks, version 1, with symmetric signatures: https://www.standardwebhooks.com"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import HttpRequest
from portico_celery.adapters.job_trigger.webhook_trigger.verification.scheme import NotVerified, text_member
from portico_celery.adapters.job_trigger.webhook_trigger.verification.signatures import (
    digests,
    few,
    from_base64,
    require_match,
    require_recent,
    secret_list,
)
from portico_celery.exceptions import ConfigurationError

_PREFIX = "whsec_"
_VERSION = "v1,"
# A dot would let an attacker move the border between id and timestamp.
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MIN_SECRET_BYTES, _MAX_SECRET_BYTES = 24, 64


class StandardWebhooks:
    """``secrets`` are ``whsec_...`` as senders show them; during a rotation several at a time."""

    counters = ()

    def __init__(self, secrets: str | Sequence[str]) -> None:
        self._secrets = [secret_bytes(secret) for secret in secret_list(secrets, "Standard Webhooks")]

    def verify(self, request: HttpRequest, *, now: datetime) -> None:
        """Check ``webhook-signature`` over id, timestamp and body. Raises NotVerified."""
        webhook_id = request.header("webhook-id")
        if webhook_id is None or not _ID.fullmatch(webhook_id):
            raise NotVerified("webhook-id is missing or malformed")
        timestamp = require_recent(request.header("webhook-timestamp"), now)
        given = _signatures(request.header("webhook-signature") or "")
        require_match(digests(self._secrets, signed_message(webhook_id, timestamp, request.body)), given)

    def event_type(self, _request: HttpRequest, document: Mapping[str, Any]) -> str | None:
        """Return the member ``type``, where the specification has it."""
        return text_member(document, "type")

    def delivery_id(self, request: HttpRequest, _document: Mapping[str, Any]) -> str | None:
        """Return ``webhook-id``, which is signed."""
        return request.header("webhook-id")

    def handshake(self, _document: Mapping[str, Any]) -> None:
        """There is none."""


def signed_message(webhook_id: str, timestamp: str, body: bytes) -> bytes:
    """Return what is signed."""
    return f"{webhook_id}.{timestamp}.".encode() + body


def signature_header(secret: str, webhook_id: str, timestamp: str, body: bytes) -> str:
    """Sign as a sender does: the value of ``webhook-signature``. Raises ConfigurationError for an unfit secret."""
    (digest,) = digests([secret_bytes(secret)], signed_message(webhook_id, timestamp, body))
    return _VERSION + base64.b64encode(digest).decode()


def secret_bytes(secret: str) -> bytes:
    """Return the key in a ``whsec_`` secret. Raises ConfigurationError, which does not show it."""
    try:
        key = from_base64(secret.removeprefix(_PREFIX))
    except NotVerified:
        raise ConfigurationError(
            "a Standard Webhooks secret must be whsec_ and base64, as the sender shows it"
        ) from None
    if not _MIN_SECRET_BYTES <= len(key) <= _MAX_SECRET_BYTES:
        raise ConfigurationError(
            f"a Standard Webhooks secret must have {_MIN_SECRET_BYTES} to {_MAX_SECRET_BYTES} bytes, not {len(key)}"
        )
    return key


def _signatures(header: str) -> list[bytes]:
    # Other versions (v1a is asymmetric) may stand beside ours; all must be of the form "version,signature".
    listed = few(header.split(" "))
    if not all(one.count(",") == 1 for one in listed):
        raise NotVerified("webhook-signature is malformed")
    return [from_base64(one.removeprefix(_VERSION)) for one in listed if one.startswith(_VERSION)]
