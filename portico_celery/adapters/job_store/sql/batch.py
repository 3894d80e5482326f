"""A list of rows as one parameter of a statement, so that a plural call is one statement, whatever its length.

The rows travel as JSON text and are read as a table: PostgreSQL's jsonb_to_recordset, SQLite's json_each.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import FromClause, Text, bindparam, cast, column, func, select, type_coerce
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

_NAME = "batch"
_PARAMETER = "batch_rows"

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Batch:
    """The columns of such rows, each of which has an ``id``."""

    def __init__(self, **columns: TypeEngine[Any]) -> None:
        self._columns = columns
        self._tables: dict[str, FromClause] = {}

    def table(self, dialect: str) -> FromClause:
        """Return the table that the rows of ``batch_parameter`` are to a statement; made once for a dialect."""
        if dialect not in self._tables:
            self._tables[dialect] = _table(dialect, self._columns)
        return self._tables[dialect]


def _table(dialect: str, columns: Mapping[str, TypeEngine[Any]]) -> FromClause:
    rows = bindparam(_PARAMETER, type_=Text)
    if dialect == "postgresql":
        typed = [column(name, kind) for name, kind in columns.items()]
        found = func.jsonb_to_recordset(cast(rows, JSONB)).table_valued(*typed)
        return found.render_derived(name=_NAME, with_types=True)
    each = func.json_each(rows).table_valued("value", name="each")
    parts = [
        type_coerce(func.json_extract(each.c.value, f"$.{name}"), kind).label(name) for name, kind in columns.items()
    ]
    return select(*parts).subquery(_NAME)


def batch_parameter(dialect: str, rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the rows as the parameter of a statement over a batch's table."""

    def as_stored(value: object) -> str:
        if isinstance(value, UUID):
            return str(value) if dialect == "postgresql" else value.hex
        raise TypeError(f"{value!r} can't be a column of a batch")

    # In one order everywhere, so that two processes can't wait for each other's rows. Of two rows for one attempt the
    # first counts: an UPDATE would take either.
    first = {(row["id"], row.get("attempt", 0)): row for row in reversed(rows)}
    return {_PARAMETER: json.dumps([first[key] for key in sorted(first)], default=as_stored)}


def in_rounds(
    asked: Sequence[Asked], key: Callable[[Asked], Hashable], answer: Callable[[list[Asked]], Sequence[Answer]]
) -> list[Answer]:
    """Have all answered in as few lists as name no job or attempt twice; the answers are in the order of ``asked``."""
    # What is asked of one job or attempt is tried one after the other: the first may be refused, and the next not.
    found: dict[int, Answer] = {}
    for places in _rounds([key(one) for one in asked]):
        found |= zip(places, answer([asked[place] for place in places]), strict=True)
    return [found[place] for place in range(len(asked))]


def _rounds(keys: Sequence[Hashable]) -> list[list[int]]:
    rounds: list[list[int]] = []
    seen: Counter[Hashable] = Counter()
    for place, key in enumerate(keys):
        if seen[key] == len(rounds):
            rounds.append([])
        rounds[seen[key]].append(place)
        seen[key] += 1
    return rounds
