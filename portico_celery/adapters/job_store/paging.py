"""What the stores share in handing out jobs page by page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from portico_celery.exceptions import ValidationError

R = TypeVar("R")


def first_page(rows: Sequence[R], limit: int, *, cursor_of: Callable[[R], str]) -> tuple[Sequence[R], str | None]:
    """Return a page of rows, and the cursor of the next: of more rows than ``limit``, if there are more at all."""
    page = rows[:limit]
    return page, cursor_of(page[-1]) if len(rows) > limit else None


def unknown_cursor() -> ValidationError:
    """Return the error of a cursor that no page gave."""
    return ValidationError("cursor is not one that an earlier page returned as next_cursor")
