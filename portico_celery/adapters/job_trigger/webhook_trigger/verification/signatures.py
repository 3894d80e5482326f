"""Comparing signatures in constant time, and reading the parts of signature headers strictly."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from portico_celery.adapters.job_trigger.webhook_trigger.verification.scheme import NotVerified
from portico_celery.exceptions import ConfigurationError

#: A sender that rotates its secrets sends two or three; more is an attempt to make us compute.
MAX_SIGNATURES = 8
#: Standard Webhooks, Stripe and Slack all say five minutes, into the past and into the future.
TOLERANCE_SECONDS = 300
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_HEX = re.compile(r"(?:[0-9a-f]{2})+")


def require_match(expected: Iterable[bytes], given: Iterable[bytes]) -> None:
    """Compare each pair, and stop at none, so that the time taken says nothing. Raises NotVerified."""
    given, found = list(given), False
    for one in expected:
        for other in given:
            found |= hmac.compare_digest(one, other)
    if not found:
        raise NotVerified("no signature matches")


def digests(secrets: Sequence[bytes], message: bytes, algorithm: str = "sha256") -> list[bytes]:
    """Sign the message with each secret."""
    return [hmac.digest(secret, message, algorithm) for secret in secrets]


def from_base64(text: str) -> bytes:
    """Decode standard base64 that has nothing else in it. Raises NotVerified."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NotVerified("a signature is not base64") from None


def from_hex(text: str) -> bytes:
    """Decode lower-case hexadecimal digits. Raises NotVerified."""
    if not _HEX.fullmatch(text):
        raise NotVerified("a signature is not hexadecimal")
    return bytes.fromhex(text)


def require_recent(timestamp: str | None, now: datetime) -> str:
    """Check a time in seconds since 1970, in digits and nothing else, and return it. Raises NotVerified."""
    if timestamp is None or not _TIMESTAMP.fullmatch(timestamp):
        raise NotVerified("the timestamp is missing or not a number of seconds")
    if abs(int(timestamp) - now.timestamp()) > TOLERANCE_SECONDS:
        raise NotVerified("the timestamp is too old or too far ahead")
    return timestamp


def few(signatures: Sequence[str]) -> Sequence[str]:
    """Return the signatures if they are no more than anybody needs. Raises NotVerified."""
    if not 0 < len(signatures) <= MAX_SIGNATURES:
        raise NotVerified(f"there must be 1 to {MAX_SIGNATURES} signatures")
    return signatures


def secret_list(secrets: str | Sequence[str], scheme: str) -> list[str]:
    """Return the secrets that sign now: one, or several during a rotation. Raises ConfigurationError."""
    listed = [secrets] if isinstance(secrets, str) else list(secrets)
    if not listed or not all(listed):
        raise ConfigurationError(f"{scheme} needs at least one secret, and none may be empty")
    return listed
