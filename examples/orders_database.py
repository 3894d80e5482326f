"""The storage of the example shop's orders: one SQLite file.

Storing an order again replaces it, so an import that runs twice leaves what one run leaves.
It is an adapter of the storage port that import_job.py defines.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from examples.orders import Order

_CREATE = """
CREATE TABLE IF NOT EXISTS orders (
    order_id TEXT PRIMARY KEY, ordered_at TEXT NOT NULL, customer TEXT NOT NULL, email TEXT NOT NULL,
    product TEXT NOT NULL, quantity INTEGER NOT NULL, unit_price TEXT NOT NULL, currency TEXT NOT NULL,
    note TEXT NOT NULL
)"""
_UPSERT = """
INSERT OR REPLACE INTO orders (order_id, ordered_at, customer, email, product, quantity, unit_price, currency, note)
VALUES (:order_id, :ordered_at, :customer, :email, :product, :quantity, :unit_price, :currency, :note)"""


class OrdersDatabase:
    """Keeps one row an order. Threads and processes may share the file: each call opens a connection of its own."""

    def __init__(self, path: str | Path, timeout: float = 30.0) -> None:
        self._path = path
        self._timeout = timeout

    async def upsert(self, orders: Sequence[Order]) -> None:
        """Store all of the orders or none, each in place of the one that had its id."""
        # Should the job be cut short, the thread goes on to its end: a retry then stores the same rows again.
        await asyncio.to_thread(self._upsert, orders)

    async def list_orders(self) -> list[Order]:
        """Return every order, by id."""
        return await asyncio.to_thread(self._list_orders)

    def _upsert(self, orders: Sequence[Order]) -> None:
        with closing(self._connect()) as connection, connection:
            connection.execute(_CREATE)
            connection.executemany(_UPSERT, [_to_row(order) for order in orders])

    def _list_orders(self) -> list[Order]:
        with closing(self._connect()) as connection:
            connection.execute(_CREATE)
            return [_from_row(row) for row in connection.execute("SELECT * FROM orders ORDER BY order_id")]

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=self._timeout)
        connection.row_factory = sqlite3.Row
        return connection


def _to_row(order: Order) -> dict[str, Any]:
    # The price is kept as text: SQLite would make a float of it.
    return {**order.__dict__, "ordered_at": order.ordered_at.isoformat(), "unit_price": str(order.unit_price)}


def _from_row(row: sqlite3.Row) -> Order:
    values = dict(zip(row.keys(), row, strict=True))
    values["ordered_at"] = datetime.fromisoformat(values["ordered_at"])
    values["unit_price"] = Decimal(values["unit_price"])
    return Order(**values)
