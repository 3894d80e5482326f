"""Requests that are under way: that a server has read them, and that they wait for the store."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg


def has_read(connection: socket.socket) -> bool:
    """Whether the server at the other end has read all that was sent to it."""
    port, other = connection.getpeername()[1], connection.getsockname()[1]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, _, _, _, _, inode, *_ = line.split()
        if local.endswith(f":{port:04X}") and remote.endswith(f":{other:04X}"):
            # A connection that no program has taken over yet has no inode.
            return inode != "0" and queues.endswith(":00000000")
    return False


class HeldJobs:
    """The table of jobs, which can be read and not written to as long as it is held."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def someone_waits(self) -> bool:
        """Whether somebody waits to write to it."""
        waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'portico_jobs'::regclass AND NOT granted"
        row = self._connection.execute(waiting).fetchone()
        return row is not None and row[0] > 0


@contextmanager
def held_jobs(store: str) -> Iterator[HeldJobs]:
    """Let nobody write to the table of jobs in a PostgreSQL; inside the block."""
    with psycopg.connect(store) as connection:
        connection.execute("LOCK TABLE portico_jobs IN SHARE MODE")
        yield HeldJobs(connection)
