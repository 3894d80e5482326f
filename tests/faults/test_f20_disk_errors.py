"""F20: each create is synced to the disk before it is accepted, and a disk that fails to sync loses no accepted job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.faults.accepted_rows import judge_creates
from tests.faults.conftest import Report
from tests.faults.creating_clients import Answer, Answers, creating, is_accepted, is_refused
from tests.faults.creating_process import CreatingProcess
from tests.faults.sizes import FULL, TIMEOUT, chances, size
from tests.faults.system import a_system
from tests.faults.traced import attached, can_trace, is_injected, noting_syncs, sync_times
from tests.postgresql import PrivatePostgreSQL

pytestmark = [
    pytest.mark.timeout(TIMEOUT),
    pytest.mark.skipif(not can_trace(), reason="NO strace THAT MAY TRACE: NOBODY LOOKED WHETHER CREATES ARE SYNCED"),
]

CREATES = size(60, 1_000)
#: For SQLite: the syncs of each thread that fail.
FAILING = size("when=40..60", "when=400..600")
SECONDS = size(60.0, 300.0)


def synced(answers: list[Answer], syncs: list[float]) -> int:
    """Count the creates during which there was a sync."""
    return sum(any(answer.began <= at <= answer.ended for at in syncs) for answer in answers)


def backends(url: str) -> Iterator[int]:
    """Yield the server's processes that write for others."""
    with psycopg.connect(url) as connection:
        kinds = ["client backend", "walwriter"]
        yield from (
            pid
            for (pid,) in connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = ANY(%s) AND pid <> pg_backend_pid()", [kinds]
            )
        )


def test_each_create_in_sqlite_is_synced_and_none_is_accepted_that_was_not(
    broker_url: str, sqlite_store: str, tmp_path: Path, report: Report
) -> None:
    answers, chance, log = Answers(tmp_path), chances("F20 sqlite synced"), tmp_path / "syncs.txt"
    with a_system(broker_url, sqlite_store, tmp_path) as system:
        under = noting_syncs(log, f"error=EIO:{FAILING}")
        with CreatingProcess(system, chance.randrange(1_000_000), threads=1, under=under):
            answers.wait_for(is_refused, 3, SECONDS)
            # It works again, in the same process.
            answers.wait_for(is_accepted, CREATES, SECONDS)
        accepted = list(filter(is_accepted, answers.all))
        counted = {"creates": len(accepted), "synced_creates": synced(accepted, sync_times(log))}
        judge_creates(system, answers, report, store="sqlite", fault="EIO", **counted)
    assert is_injected(log)
    assert counted["synced_creates"] == counted["creates"]


@pytest.mark.skipif(not FULL, reason="only in the full size, since it takes long")
def test_each_create_in_postgresql_is_synced_and_none_is_accepted_that_was_not(
    broker_url: str, private_postgresql: Callable[..., PrivatePostgreSQL], tmp_path: Path, report: Report
) -> None:
    server, log, failed = private_postgresql(), tmp_path / "syncs.txt", tmp_path / "failed.txt"
    with a_system(broker_url, server.url, tmp_path) as system:
        with creating(system.portico, tmp_path, chances("F20 postgresql synced"), threads=1) as answers:
            answers.wait_for(is_accepted, CREATES, SECONDS)
            with attached(backends(server.url), log):
                before = len(answers.all)
                answers.wait_for(is_accepted, CREATES, SECONDS)
                watched = list(filter(is_accepted, answers.all[before + 1 :]))
            counted = {"creates": len(watched), "synced_creates": synced(watched, sync_times(log))}
            # The backend that meets it has the server restart, and go on from what it had synced.
            with attached(backends(server.url), failed, "error=EIO:when=5"):
                answers.wait_for(is_refused, 1, SECONDS)
            answers.wait_for(is_accepted, CREATES, SECONDS)
        judge_creates(system, answers, report, store="postgresql", fault="EIO", **counted)
    assert is_injected(failed)
    assert counted["synced_creates"] == counted["creates"]
