"""What every scheme of signing webhooks offers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Protocol

from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import HttpRequest
from portico_celery.exceptions import PorticoError


class NotVerified(PorticoError):
    """The request does not prove who sent it. The reason is for the log; every such request gets the same answer."""


class SenderScheme(Protocol):
    """How one kind of sender signs, and where it says what happened."""

    @property
    def counters(self) -> Collection[str]:
        """Return the members of the body that may differ when a delivery is tried again; all else is the same."""

    def verify(self, request: HttpRequest, *, now: datetime) -> None:
        """Check the signature over the raw body. Raises NotVerified, and nothing else, whatever was sent."""

    def event_type(self, request: HttpRequest, document: Mapping[str, Any]) -> str | None:
        """Return what kind of event it is; None where the sender does not say."""

    def delivery_id(self, request: HttpRequest, document: Mapping[str, Any]) -> str | None:
        """Return what is the same when the sender delivers the event again; None where it does not say."""

    def handshake(self, document: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return what the sender wants to hear when it tries the address out; None for a common event."""


def text_member(document: Mapping[str, Any], name: str) -> str | None:
    """Return a member that is text, or None."""
    value = document.get(name)
    return value if isinstance(value, str) else None
