"""One job for one idempotency key: the job's id follows from the key, and the row remembers what was asked for."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid5

from portico_celery.adapters.job_trigger.webhook_trigger.caller import METADATA
from portico_celery.adapters.job_trigger.webhook_trigger.problem import Problem
from portico_celery.ports.job import Job

_NAMESPACE = UUID("6a1f3f0e-0b1c-5d53-9f0f-6f7f0a1f6f77")
#: What a key may be, as JavaScript reads it too, for it stands in the OpenAPI document. No comma: that is how a server
#: joins two headers of the same name.
KEY = re.compile(r"^[!-+\--~]{1,255}$(?!\n)")
KEY_RULE = "1 to 255 printable ASCII characters without spaces and commas"


@dataclass(frozen=True, kw_only=True)
class IdempotencyKey:
    """``fingerprint`` is of what was sent."""

    job_id: UUID
    fingerprint: str

    def require_same(self, job: Job) -> None:
        """Raise Problem (422) where the stored job was created by another request."""
        stored = webhook_metadata(job).get("fingerprint")
        if stored != self.fingerprint:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "The idempotency key was used before, with another body.")


def idempotency_key(
    text: str | None, *, scope: str | None, body: bytes, place: int | None = None
) -> IdempotencyKey | None:
    """Read a key: None where there is none. ``scope`` is whose key it is. Raises Problem (400).

    ``place`` tells the jobs of a batch apart that have one key together.
    """
    if text is None:
        return None
    if not KEY.match(text):
        raise Problem(HTTPStatus.BAD_REQUEST, f"The idempotency key must be one, of {KEY_RULE}.")
    # As JSON, so that no scope and key can be read as another scope and another key.
    job_id = uuid5(_NAMESPACE, json.dumps([scope, text] if place is None else [scope, text, place]))
    return IdempotencyKey(job_id=job_id, fingerprint=fingerprint(body))


def fingerprint(body: bytes) -> str:
    """Return what tells two bodies apart."""
    return hashlib.sha256(body).hexdigest()


def webhook_metadata(job: Job) -> dict[str, Any]:
    """Return what we noted of the request that created a job."""
    ours = job.metadata.get(METADATA)
    return ours if isinstance(ours, dict) else {}
