"""What may befall a job store that goes on running: a context manager for each, under which it can't take a job."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from redis import Redis

from tests.faults.small_disk import can_mount, full, no_file_larger_than
from tests.faults.tcp_proxy import Link, TCPProxy, Toxic

Faults = dict[str, Callable[[], AbstractContextManager[None]]]

_SLOW_SECONDS = 2.0


class Slow(Toxic):
    """What the server says takes 2 s."""

    async def carry(self, link: Link, data: bytes, to: asyncio.StreamWriter) -> None:
        self.bites += 1
        if to is link.ends[0] and not self.over.is_set():
            await asyncio.sleep(_SLOW_SECONDS)
        await super().carry(link, data, to)


def postgresql_faults(url: str, proxy: TCPProxy, disk: Path | None) -> Faults:
    """Faults of a server, which has its data on a small disk where there is one."""
    faults: Faults = {
        "slow": lambda: proxy.under(Slow()),
        "locked": lambda: _a_locked_table(url),
        "read_only": lambda: _read_only_postgresql(url),
    }
    if disk is not None:
        faults["no_space"] = lambda: full(disk)
    return faults


@contextmanager
def _a_locked_table(url: str) -> Iterator[None]:
    with psycopg.connect(url) as somebody:
        somebody.execute("LOCK TABLE portico_jobs IN ACCESS EXCLUSIVE MODE")
        yield
        somebody.rollback()


@contextmanager
def _read_only_postgresql(url: str) -> Iterator[None]:
    # It holds for sessions that begin from now on.
    others = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'postgres' AND pid <> pg_backend_pid()"
    )
    with psycopg.connect(url, autocommit=True) as operator:
        operator.execute("ALTER DATABASE postgres SET default_transaction_read_only = on")
        operator.execute(others)
        yield
        operator.execute("ALTER DATABASE postgres RESET default_transaction_read_only")
        operator.execute(others)


def redis_faults(url: str, proxy: TCPProxy) -> Faults:
    """Faults of a server."""
    return {
        "slow": lambda: proxy.under(Slow()),
        "paused": lambda: _told(url, "CLIENT PAUSE 60000 WRITE", "CLIENT UNPAUSE"),
        "read_only": lambda: _told(url, "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
        "no_replicas": lambda: _told(url, "CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
        "no_space": lambda: _told(url, "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
    }


@contextmanager
def _told(url: str, before: str, after: str) -> Iterator[None]:
    with Redis.from_url(url) as operator:
        _tell(operator, before)
        yield
        _tell(operator, after)


def _tell(client: Any, command: str) -> None:
    client.execute_command(*command.split())


def sqlite_faults(database: Path) -> Faults:
    """Faults of a file, which is on a small disk where that can be."""
    journal = database.with_name(f"{database.name}-wal")
    return {
        "locked": lambda: _a_locked_file(database),
        "no_space": lambda: full(database.parent) if can_mount() else no_file_larger_than(journal),
    }


@contextmanager
def _a_locked_file(database: Path) -> Iterator[None]:
    with closing(sqlite3.connect(database, isolation_level=None)) as somebody:
        somebody.execute("BEGIN EXCLUSIVE")
        yield
        somebody.execute("ROLLBACK")
