"""The control: a plain client that commits an order of its own, sends its task, and may die in between.

python -m tests.faults.plain_creator SEED COUNT QUEUE
"""

from __future__ import annotations

import os
import random
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from celery import Celery

from tests.faults.plain_settings import SETTINGS

DIED = 3
ORDERS = "orders.db"


def main(seed: str, count: str, queue: str) -> None:
    """Take the orders, each in a process of its own."""
    chances = random.Random(seed)  # noqa: S311  # a test that can be repeated
    path = Path(os.environ["FAULT_DIRECTORY"]) / ORDERS
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE orders (number INTEGER PRIMARY KEY)")
    for number in range(int(count)):
        dies = chances.random() < 0.5
        child = os.fork()
        if child == 0:
            _take_order(path, number, queue, dies=dies)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != (DIED if dies else 0):
            raise SystemExit(f"order {number} ended with {status}")


def _take_order(path: Path, number: int, queue: str, *, dies: bool) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("INSERT INTO orders VALUES (?)", [number])
    if dies:
        os._exit(DIED)
    app = Celery("control", broker=os.environ["FAULT_BROKER"])
    app.conf.update(SETTINGS)
    app.send_task("plain.work", queue=queue)
    app.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
