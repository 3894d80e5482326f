"""JSON as RFC 8259 has it, in UTF-8, within limits. jiter reads it; what it lets pass and we don't is found here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jiter

_MAX_INTEGER = 10**20


@dataclass(frozen=True, kw_only=True)
class JsonLimits:
    """How deep a value may be nested, and of how many values (members, items) it may be made."""

    depth: int = 32
    nodes: int = 10_000


class InvalidJson(ValueError):
    """The text is not JSON that we take. The message repeats nothing of it."""


def load(body: bytes, limits: JsonLimits = JsonLimits()) -> Any:  # frozen
    """Read one JSON value. Raises InvalidJson."""
    try:
        value = jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="none")
    except ValueError as error:
        raise InvalidJson(_without_echo(str(error))) from None
    _refuse_excess(value, limits)
    return value


def _without_echo(message: str) -> str:
    # Of jiter's messages this one names the member, which is the client's own word.
    if "uplicate key" in message:
        return "An object in the body has two members of the same name."
    if "recursion limit" in message:
        return "The body is nested too deeply."
    return f"The body is not JSON in UTF-8: {message}."


def _refuse_excess(value: Any, limits: JsonLimits) -> None:
    """Walk the value level by level, so that no depth can exhaust our own stack."""
    level, depth, nodes = [value], 0, 0
    while level:
        nodes += len(level)
        if nodes > limits.nodes:
            raise InvalidJson(f"The body has too many values: at most {limits.nodes}.")
        containers = [item for item in level if _checked(item)]
        depth += bool(containers)
        if depth > limits.depth:
            raise InvalidJson(f"The body is nested too deeply: at most {limits.depth} levels.")
        level = [child for item in containers for child in _children(item)]


def _children(item: Any) -> Any:
    if isinstance(item, list):
        return item
    if any("\x00" in name for name in item):
        raise _nul()
    return item.values()


def _checked(item: Any) -> bool:
    """Refuse a scalar that can't be kept; True for what has children."""
    if isinstance(item, str):
        if "\x00" in item:
            raise _nul()
    elif isinstance(item, float):
        if math.isinf(item):
            # 1e999 would become Infinity, which no store could write down as JSON again.
            raise InvalidJson("A number in the body is too large.")
    elif isinstance(item, int) and abs(item) >= _MAX_INTEGER:
        raise InvalidJson("A whole number in the body has more than 20 digits.")
    return isinstance(item, dict | list)


def _nul() -> InvalidJson:
    return InvalidJson("A text in the body has the character NUL, which PostgreSQL can't keep.")
