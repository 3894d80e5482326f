"""For senders that sign nothing. Whoever knows the address can create the jobs that the source maps to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import HttpRequest
from portico_celery.adapters.job_trigger.webhook_trigger.verification.scheme import text_member


class NoVerification:
    """Takes every request as it comes."""

    counters = ()

    def verify(self, request: HttpRequest, *, now: datetime) -> None:
        """Check nothing."""

    def event_type(self, _request: HttpRequest, document: Mapping[str, Any]) -> str | None:
        """Return the member ``type``."""
        return text_member(document, "type")

    def delivery_id(self, _request: HttpRequest, document: Mapping[str, Any]) -> str | None:
        """Return the member ``id``."""
        return text_member(document, "id")

    def handshake(self, _document: Mapping[str, Any]) -> None:
        """There is none."""
