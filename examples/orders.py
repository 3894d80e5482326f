"""The orders of the example shop, and the CSV files that they come in.

Nothing here knows of jobs: ``parse_orders`` is a pure function that import_job.py calls. It reads the
whole file or says which line is wrong, so that no half of a file is ever stored.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from portico_celery.exceptions import ValidationError

_MAX_QUANTITY = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Order:
    """One order; the names of its fields are the CSV file's columns."""

    order_id: str
    ordered_at: datetime
    customer: str
    email: str
    product: str
    quantity: int
    unit_price: Decimal
    currency: str
    note: str


def parse_orders(content: bytes) -> list[Order]:
    """Read a whole CSV file, or raise a ValidationError that names the first line that is wrong."""
    rows = _numbered_rows(_decode(content))
    first_line, header = next(rows, (1, []))
    missing = [column for column in _READERS if column not in header]
    if missing:
        raise ValidationError(f"line {first_line}: missing columns: {', '.join(missing)}")
    orders: dict[str, Order] = {}
    for line, row in rows:
        order = _parse_row(line, header, row)
        if order.order_id in orders:
            raise ValidationError(f"line {line}: order {order.order_id} is in the file twice")
        orders[order.order_id] = order
    return list(orders.values())


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValidationError(f"line {line}: not UTF-8") from error


def _numbered_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with the line it begins on: a quoted field may span lines."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValidationError(f"line {line}: not CSV: {error}") from error
        if row:
            yield line, row


def _parse_row(line: int, header: list[str], row: list[str]) -> Order:
    if len(row) != len(header):
        raise ValidationError(f"line {line}: {len(row)} fields where the header has {len(header)}")
    cells = dict(zip(header, row, strict=True))
    values: dict[str, Any] = {}
    for column, read in _READERS.items():
        try:
            values[column] = read(cells[column])
        except ValueError as error:
            raise ValidationError(f"line {line}: {column}: {error}") from error
    return Order(**values)


def _required(cell: str) -> str:
    if not cell.strip():
        raise ValueError("is empty")
    return cell


def _moment(cell: str) -> datetime:
    moment = datetime.fromisoformat(cell)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _quantity(cell: str) -> int:
    quantity = int(cell)
    if not 1 <= quantity <= _MAX_QUANTITY:
        raise ValueError(f"is not between 1 and {_MAX_QUANTITY}")
    return quantity


def _price(cell: str) -> Decimal:
    try:
        price = Decimal(cell)
    except InvalidOperation as error:
        raise ValueError(f"is not a number: {cell!r}") from error
    if not price.is_finite() or price < 0:
        raise ValueError(f"is not a price: {cell!r}")
    return price


_READERS: dict[str, Callable[[str], object]] = {
    "order_id": _required,
    "ordered_at": _moment,
    "customer": _required,
    "email": str,
    "product": _required,
    "quantity": _quantity,
    "unit_price": _price,
    "currency": _required,
    "note": str,
}
