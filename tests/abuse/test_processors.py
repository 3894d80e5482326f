"""Which processors the processes of a server run on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from tests.abuse.server import Server
from tests.waiting import eventually
from webhook_app.processors import processor_for

Processors = frozenset[int]


@pytest.fixture
def allowed() -> Iterator[Processors]:
    """Two processors, where there are so many: those that a server started here may run on."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:2])
    yield frozenset(os.sched_getaffinity(0))
    os.sched_setaffinity(0, before)


def processors_of(server: Server) -> list[Processors]:
    """Return what each of a server's processes may run on."""
    processors = []
    for pid in children_of(server):
        with suppress(ProcessLookupError):  # it has just ended
            processors.append(frozenset(os.sched_getaffinity(pid)))
    return sorted(processors, key=sorted)


def children_of(server: Server) -> list[int]:
    """Return the processes of a server."""
    return [int(pid) for pid in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()]


def test_with_a_process_for_each_processor_each_has_its_own_and_who_replaces_it_has_the_same(
    tmp_path: Path, environment: Mapping[str, str], allowed: Processors
) -> None:
    own = [frozenset({processor}) for processor in sorted(allowed)]
    with Server(tmp_path, environment, workers=len(allowed)) as server:
        eventually(lambda: processors_of(server) == own, 30, lambda: f"{processors_of(server)} is not {own}")

        lost = max(children_of(server))
        os.kill(lost, signal.SIGKILL)
        eventually(lambda: lost not in children_of(server), 30, "the end of a process")

        eventually(lambda: processors_of(server) == own, 30, lambda: f"{processors_of(server)} is not {own}")
        # It is in its place before it hears that it is to stop.
        eventually(server.has_all_processes, 30, "a process that can be told to stop")


def test_a_process_of_fewer_than_there_are_processors_may_run_on_any(
    tmp_path: Path, environment: Mapping[str, str], allowed: Processors
) -> None:
    with Server(tmp_path, environment, workers=1) as server:
        assert server.is_ready(), "its processor would have been chosen by now"
        assert processors_of(server) == [allowed]


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
