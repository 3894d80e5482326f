"""An HMAC over the body, for senders that have no scheme of a name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import HttpRequest
from portico_celery.adapters.job_trigger.webhook_trigger.verification.scheme import NotVerified, text_member
from portico_celery.adapters.job_trigger.webhook_trigger.verification.signatures import (
    digests,
    from_base64,
    from_hex,
    require_match,
    require_recent,
    secret_list,
)
from portico_celery.exceptions import ConfigurationError

_ALGORITHMS = ("sha256", "sha384", "sha512")


@dataclass(frozen=True, kw_only=True)
class HmacSignature:
    """The signature is in ``signature_header``, after ``prefix``; with ``timestamp_header`` over "time.body".

    ``event_header`` and ``delivery_header`` name the headers that say what happened and which delivery it is; without
    them they are the members ``type`` and ``id`` of the body. What is in a header is not signed. ``counters`` are
    members of the body that may differ when a delivery is tried again.
    """

    secrets: str | Sequence[str] = field(repr=False)
    signature_header: str
    algorithm: str = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    timestamp_header: str | None = None
    event_header: str | None = None
    delivery_header: str | None = None
    counters: Collection[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "secrets", tuple(secret_list(self.secrets, "an HMAC signature")))
        if self.algorithm not in _ALGORITHMS:
            raise ConfigurationError(f"algorithm must be one of {', '.join(_ALGORITHMS)}, not {self.algorithm!r}")
        if self.encoding not in ("hex", "base64"):
            raise ConfigurationError(f"encoding must be hex or base64, not {self.encoding!r}")

    def verify(self, request: HttpRequest, *, now: datetime) -> None:
        """Check the signature. Raises NotVerified."""
        header = request.header(self.signature_header) or ""
        if not header.startswith(self.prefix):
            raise NotVerified(f"{self.signature_header} is missing or malformed")
        message = request.body
        if self.timestamp_header is not None:
            timestamp = require_recent(request.header(self.timestamp_header), now)
            message = f"{timestamp}.".encode() + message
        decoded = (from_hex if self.encoding == "hex" else from_base64)(header.removeprefix(self.prefix))
        require_match(digests([secret.encode() for secret in self.secrets], message, self.algorithm), [decoded])

    def event_type(self, request: HttpRequest, document: Mapping[str, Any]) -> str | None:
        """Return what ``event_header`` says, or the member ``type``."""
        return request.header(self.event_header) if self.event_header else text_member(document, "type")

    def delivery_id(self, request: HttpRequest, document: Mapping[str, Any]) -> str | None:
        """Return what ``delivery_header`` says, or the member ``id``."""
        return request.header(self.delivery_header) if self.delivery_header else text_member(document, "id")

    def handshake(self, _document: Mapping[str, Any]) -> None:
        """There is none."""
