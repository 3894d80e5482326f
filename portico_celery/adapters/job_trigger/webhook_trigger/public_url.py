"""A field for payload schemas: the URL of somebody else's server, which must not lead into our own network."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from marshmallow import ValidationError, fields

_PORTS = frozenset({None, 443, 8443})
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE | re.ASCII)
# 127.1, 0x7f.1, 0177.0.0.1 and 2130706433 are addresses too, to those who connect: no name ends in a number.
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)", re.IGNORECASE | re.ASCII)
_INSIDE = ("localhost", "local", "internal", "intranet", "lan", "home", "corp")


class PublicUrl(fields.String):
    """An https URL at port 443 or 8443, with a full host name or a public address, and without a user in it.

    A name may still resolve to an address inside: whoever fetches the URL has to look at the addresses that it
    connects to, and must not follow redirects unseen.
    """

    def __init__(self, **kwargs: Any) -> None:
        # What the OpenAPI document says of it.
        metadata = {"format": "uri", "examples": ["https://example.com/"], **kwargs.pop("metadata", {})}
        super().__init__(metadata=metadata, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if not is_public_url(text):
            raise ValidationError("Must be an https URL of a public host, at port 443 or 8443.")
        return text


def is_public_url(text: str) -> bool:
    """Whether the URL may be one of the outside world, as far as it can be seen without asking for its name."""
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        return False
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme != "https" or port not in _PORTS or "@" in parts.netloc or not parts.hostname:
        return False
    return _is_public_host(parts.hostname)


def _is_public_host(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return _is_full_name(host)
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_global and not address.is_multicast


def _is_full_name(host: str) -> bool:
    labels = host.split(".")
    if len(labels) < 2 or len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return False
    # xn-- would show a reader another name than the one that is asked for.
    return not (
        _NUMERIC.fullmatch(labels[-1]) or labels[-1] in _INSIDE or any(one.startswith("xn--") for one in labels)
    )
