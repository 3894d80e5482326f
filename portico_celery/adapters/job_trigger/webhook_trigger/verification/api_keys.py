"""Bearer API keys: ``pk_<id>_<secret>``. What is configured is the hash; the key itself is shown once, to its owner."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import HttpRequest
from portico_celery.adapters.job_trigger.webhook_trigger.verification.scheme import NotVerified
from portico_celery.exceptions import ConfigurationError

_KEY = re.compile(r"pk_([a-z0-9]{1,32})_([A-Za-z0-9_-]{32,128})", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}")
_ACTIVE_AT_ONCE = 2


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """What is known of a key. ``job_types`` and ``queues`` are what it may use; None is all that the webhook allows.

    ``caller`` is whom it belongs to: jobs and idempotency keys are the caller's, whichever of its keys was used.
    """

    id: str
    caller: str
    sha256: str
    job_types: Collection[str] | None = None
    queues: Collection[str] | None = None
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        if not _HASH.fullmatch(self.sha256):
            raise ConfigurationError(f"key {self.id!r}: sha256 must be 64 hexadecimal digits, as make-key prints them")
        if ":" in self.caller or not self.caller or isinstance(self.job_types, str) or isinstance(self.queues, str):
            raise ConfigurationError(f"key {self.id!r} needs a caller without ':'; its job_types and queues are lists")
        if self.expires_at is not None and self.expires_at.tzinfo is None:
            raise ConfigurationError(f"key {self.id!r}: expires_at needs a time zone, such as 2030-01-31T12:00:00Z")

    def expired(self, now: datetime) -> bool:
        """Whether it counts no longer."""
        return self.expires_at is not None and self.expires_at <= now


class ApiKeys:
    """The keys that open the webhook. A caller has at most two at a time, so that it can change one for the other."""

    def __init__(self, keys: Iterable[ApiKey], *, now: datetime | None = None) -> None:
        listed = list(keys)
        self._keys = {key.id: key for key in listed}
        if len(self._keys) != len(listed):
            raise ConfigurationError("two API keys have the same id: make another one")
        moment = now or datetime.now(UTC)
        active = Counter(key.caller for key in listed if not key.expired(moment))
        many = sorted(caller for caller, count in active.items() if count > _ACTIVE_AT_ONCE)
        if many:
            raise ConfigurationError(f"more than {_ACTIVE_AT_ONCE} active API keys for {', '.join(many)}: remove one")

    def authenticate(self, request: HttpRequest, *, now: datetime) -> ApiKey:
        """Return the key that the request bears. Raises NotVerified, after the same work whatever is wrong."""
        scheme, _, token = (request.header("Authorization") or "").partition(" ")
        found = _KEY.fullmatch(token)
        if scheme.lower() != "bearer" or found is None:
            raise NotVerified("no well-formed bearer key")
        key = self._keys.get(found[1])
        expected = key.sha256 if key is not None else "0" * 64
        same = hmac.compare_digest(expected, secret_hash(found[2]))
        if key is None or not same or key.expired(now):
            raise NotVerified("the key is unknown, wrong or expired")
        return key


def secret_hash(secret: str) -> str:
    """Return what is stored of a secret: 32 random bytes need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def make_key() -> tuple[str, str, str]:
    """Return a new key, its id, and the hash to store."""
    key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    return f"pk_{key_id}_{secret}", key_id, secret_hash(secret)
