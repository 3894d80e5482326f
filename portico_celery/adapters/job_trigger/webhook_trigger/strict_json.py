"""JSON as RFC 8259 has it, without what Python's reader adds or passes over."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

MAX_NESTING = 100


class InvalidJson(ValueError):
    """The text is not JSON that we take. The message repeats nothing of it."""


def load(body: bytes) -> Any:
    """Read one JSON value. Raises InvalidJson."""
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
        )
    except InvalidJson:
        raise
    except UnicodeDecodeError:
        raise InvalidJson("The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise InvalidJson(f"The body is not JSON: see line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        # Python refuses to read integers of thousands of digits.
        raise InvalidJson("A number in the body is too long.") from None
    _refuse_deep_nesting(value)
    _refuse_half_characters(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise InvalidJson("An object in the body has two members of the same name.")
    return members


def _no_constant(_name: str) -> NoReturn:
    raise InvalidJson("NaN and Infinity are not JSON.")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        # 1e999 would become Infinity, which no store could write down as JSON again.
        raise InvalidJson("A number in the body is too large.")
    return number


def _refuse_deep_nesting(value: Any) -> None:
    # Well below the interpreter's recursion limit, so that whoever handles the value later has room to recurse.
    level, depth = [value], 0
    while containers := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        if depth > MAX_NESTING:
            raise _too_deep()
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]


def _too_deep() -> InvalidJson:
    return InvalidJson(f"The body is nested too deeply: at most {MAX_NESTING} levels.")


def _refuse_half_characters(value: Any) -> None:
    # "\ud800" alone is half of a pair: Python keeps it as text, but nothing can encode that text.
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidJson("The body has half of a surrogate pair.") from None
