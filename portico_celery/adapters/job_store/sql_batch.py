"""A list of rows as one parameter of a statement, so that a plural call is one statement, whatever its length.

The rows travel as JSON text and are read as a table: PostgreSQL's jsonb_to_recordset, SQLite's json_each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import FromClause, Text, bindparam, cast, column, func, select, type_coerce
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

NAME = "batch"
_PARAMETER = "batch_rows"

Columns = Mapping[str, TypeEngine[Any]]


def batch_table(dialect: str, columns: Columns) -> FromClause:
    """Return the table of rows that ``batch_parameter`` passes to the statement."""
    rows = bindparam(_PARAMETER, type_=Text)
    if dialect == "postgresql":
        typed = [column(name, kind) for name, kind in columns.items()]
        found = func.jsonb_to_recordset(cast(rows, JSONB)).table_valued(*typed)
        return found.render_derived(name=NAME, with_types=True)
    each = func.json_each(rows).table_valued("value", name="each")
    parts = [
        type_coerce(func.json_extract(each.c.value, f"$.{name}"), kind).label(name) for name, kind in columns.items()
    ]
    return select(*parts).subquery(NAME)


def batch_parameter(dialect: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the rows as the parameter of a statement over ``batch_table``."""

    def as_stored(value: object) -> str:
        if isinstance(value, UUID):
            return str(value) if dialect == "postgresql" else value.hex
        raise TypeError(f"{value!r} can't be a column of a batch")

    return {_PARAMETER: json.dumps([dict(row) for row in rows], default=as_stored)}
