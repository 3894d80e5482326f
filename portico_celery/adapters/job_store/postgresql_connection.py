"""A PostgreSQL connection that does not wait for ever: psycopg itself has no limit for the answer to a statement.

The server's own statement_timeout is of no use where the server, its machine or the network stands still.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg

from portico_celery.adapters.job_store.answer_time import wanted_by
from portico_celery.adapters.job_store.sql_engine import CALL_SECONDS

T = TypeVar("T")


class NoAnswer(psycopg.OperationalError):
    """The server did not answer in time. What it was asked to do, it may have done, or may still do."""


class BoundedConnection(psycopg.Connection[Any]):
    """Closes itself when the server takes longer than ``answer_seconds`` over one statement.

    It can't be used any more then: the answer may still come, and would be taken for that to the next statement.
    """

    answer_seconds = CALL_SECONDS

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """Wait for the answer to a statement. Raises NoAnswer."""
        try:
            return super().wait(_within(self.answer_seconds, gen), *args, **kwargs)
        except NoAnswer:
            self.close()
            raise


def _within(seconds: float, steps: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    # psycopg resumes a generator when its socket is ready, and else every tenth of a second.
    deadline = min(time.monotonic() + seconds, wanted_by())
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            # What has come is taken in, and the end of it is an answer, however late this process gets to it.
            wanted = steps.send(ready)
            if time.monotonic() > deadline:
                raise NoAnswer(f"no answer within {seconds:g} s")
    except StopIteration as end:
        result: T = end.value
        return result
