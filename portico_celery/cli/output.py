"""How commands print."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click


def as_text(moment: datetime) -> str:
    """Return a moment as text, to the second."""
    return moment.isoformat(timespec="seconds")


def print_json(document: Any) -> None:
    """Print one JSON document."""
    # In ASCII, which every locale has, and half of a surrogate pair as well.
    click.echo(json.dumps(document, indent=2))


def as_line(text: str, most: int | None = None) -> str:
    """Return text on one line, cut to ``most`` characters, and without what would steer the terminal."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if most is None or len(line) <= most else f"{line[: most - 3]}..."


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns that are as wide as what stands in them."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())
