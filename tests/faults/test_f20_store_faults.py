"""F20: the store is slow, locked, read-only or full while jobs are created."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.accepted_rows import judge_creates, longest
from tests.faults.conftest import Report
from tests.faults.creating_clients import Answers, creating, is_accepted, is_refused
from tests.faults.sizes import TIMEOUT, chances, size
from tests.faults.small_disk import a_small_disk, can_mount
from tests.faults.store_faults import Faults, postgresql_faults, redis_faults, sqlite_faults
from tests.faults.system import System, a_system
from tests.faults.tcp_proxy import TCPProxy
from tests.postgresql import POSTGRESQL, PrivatePostgreSQL
from tests.services import PrivateRedis, needed

pytestmark = pytest.mark.timeout(TIMEOUT)

CREATES = size(30, 1_000)
#: How many must have been refused before a fault is over.
REFUSALS = size(8, 40)
SECONDS = size(40.0, 120.0)
DISK_MEGABYTES = 192


def endure(system: System, store: str, faults: Faults, report: Report) -> None:
    """Create jobs without a pause while one fault follows the other, and find each accepted one afterwards."""
    figures: dict[str, str] = {}
    with creating(system.portico, system.directory, chances(f"F20 {store}")) as answers:
        for name, fault in faults.items():
            answers.wait_for(is_accepted, CREATES, SECONDS)
            before = len(answers.all)
            with fault():
                answers.wait_for(is_refused, REFUSALS, SECONDS, name)
            figures[name] = told(answers, before)
        # It works again, by itself.
        answers.wait_for(is_accepted, CREATES, SECONDS)
    judge_creates(system, answers, report, store=store, **figures)


def told(answers: Answers, before: int) -> str:
    """Tell how a fault was met."""
    met = [answer for answer in answers.all[before:] if is_refused(answer)]
    return f"{len(met)}x{'/'.join(sorted({answer.told for answer in met}))}<={longest(met):.1f}s"


def test_no_job_is_accepted_without_its_row_while_postgresql_fails(
    broker_url: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    report: Report,
) -> None:
    with ExitStack() as stack:
        disk = None
        directory = tmp_path_factory.mktemp("postgresql")
        if can_mount():
            directory = disk = stack.enter_context(a_small_disk(directory / "disk", DISK_MEGABYTES))
        stack.enter_context(needed(POSTGRESQL))
        server = stack.enter_context(PrivatePostgreSQL(directory))
        proxy = stack.enter_context(TCPProxy(server.port))
        url = server.url.replace(str(server.port), str(proxy.port))
        system = stack.enter_context(a_system(broker_url, url, tmp_path))
        endure(system, "postgresql", postgresql_faults(server.url, proxy, disk), report)


def test_no_job_is_accepted_without_its_row_while_redis_fails(
    broker_url: str, private_redis: Callable[..., PrivateRedis], tmp_path: Path, report: Report
) -> None:
    server = private_redis(appendfsync="always")
    with TCPProxy(server.port) as proxy:
        url = server.url.replace(str(server.port), str(proxy.port))
        with a_system(broker_url, url, tmp_path) as system:
            endure(system, "redis", redis_faults(server.url, proxy), report)


def test_no_job_is_accepted_without_its_row_while_sqlite_fails(broker_url: str, tmp_path: Path, report: Report) -> None:
    with ExitStack() as stack:
        directory = stack.enter_context(a_small_disk(tmp_path / "disk", 64)) if can_mount() else tmp_path
        database = directory / "jobs.db"
        system = stack.enter_context(a_system(broker_url, f"sqlite:///{database}", tmp_path))
        endure(system, "sqlite", sqlite_faults(database), report)
