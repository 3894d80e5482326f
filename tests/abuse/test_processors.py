"""Which processors the processes of a server run on."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.abuse.target import Server
from tests.waiting import eventually
from webhook_app.processors import processor_for

ALLOWED = os.sched_getaffinity(0)


def processors_of(server: Server, workers: int) -> dict[int, frozenset[int]]:
    """Return what each of a server's processes may run on, once there are so many."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    eventually(lambda: len(children.read_text().split()) == workers, 30, "all processes")
    return {int(pid): frozenset(os.sched_getaffinity(int(pid))) for pid in children.read_text().split()}


def test_with_a_process_for_each_processor_each_has_its_own_and_who_replaces_it_has_the_same(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    workers = len(ALLOWED)
    own = Counter(frozenset({processor}) for processor in ALLOWED)
    with Server(tmp_path, environment, workers=workers) as server:
        # A process is there, and says so, a moment before it keeps to its own.
        eventually(lambda: Counter(processors_of(server, workers).values()) == own, 30, "each on its own processor")

        lost = max(processors_of(server, workers))
        os.kill(lost, signal.SIGKILL)
        eventually(lambda: server.log.count("Booting worker") == workers + 1, 30, "a new process")

        eventually(lambda: Counter(processors_of(server, workers).values()) == own, 30, "each on its own again")
        eventually(server.is_ready, 30, "a server that can be stopped")


def test_a_process_of_fewer_than_there_are_processors_may_run_on_any(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    with Server(tmp_path, environment, workers=1) as server:
        assert set(processors_of(server, 1).values()) == {frozenset(ALLOWED)}


@pytest.mark.parametrize(
    ("allowed", "workers", "taken", "chosen"),
    [
        ([0, 1], 2, [], 0),
        ([0, 1], 2, [0], 1),
        ([0, 1], 4, [0, 1, 1], 0),
        ([2, 5], 3, [2, 5], 2),
        ([0, 1, 2, 3], 3, [], None),
        ([0], 1, [], None),
        ([], 4, [None, None], None),
    ],
)
def test_the_processor_with_the_fewest_processes_is_next_where_there_are_enough_for_all(
    allowed: list[int], workers: int, taken: list[int | None], chosen: int | None
) -> None:
    assert processor_for(allowed, workers=workers, taken=taken) == chosen
