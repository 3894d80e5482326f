"""F25: whatever is done to a job store, in whatever order, it answers as the lifecycle decides."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.contracts.stores import SERVERS, STORES, StoreUnderTest
from tests.faults.conftest import Report
from tests.faults.sizes import size
from tests.faults.store_machine import StoreMachine
from tests.faults.watched_store import OpenStore

# To make a long failing example short takes its time.
pytestmark = pytest.mark.timeout(size(600, 3_600))

# The same in each run, unless somebody names another.
SEED = int(os.environ.get("PORTICO_FAULTS_SEED") or 25)
SEARCHES = size(6, 50)
# Few in each search: from the tenth on, most are variations of earlier ones.
EXAMPLES = 10
STEPS = size(30, 50)

MUST_HAPPEN = {
    *("created", "created_again", "claimed", "claims_refused", "renewed", "renewals_refused", "swept"),
    *("finished", "finished_refused", "finished_overtaken", "reaped", "reaped_refused", "reaped_overtaken"),
    *("notices", "settled", "cancelled", "requeued", "discarded", "deleted"),
}


def search(open_store: OpenStore, number: int, seen: Counter[str]) -> None:
    """Look for a series of steps on which the store goes wrong, and raise what it leads to."""

    @seed(number)
    class Machine(StoreMachine):
        def __init__(self) -> None:
            super().__init__(open_store, seen)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            phases=[Phase.generate, Phase.shrink],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("name", STORES)
def test_whatever_is_done_to_a_store_it_answers_as_the_lifecycle_decides(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, report: Report
) -> None:
    numbers = count()

    def open_store() -> AbstractContextManager[StoreUnderTest]:
        directory = tmp_path / str(next(numbers))
        directory.mkdir()
        return STORES[name](request.getfixturevalue(SERVERS[name]) if name in SERVERS else directory)

    seen: Counter[str] = Counter()
    for number in range(SEARCHES):
        search(open_store, SEED + number, seen)
    report("F25", store=name, seed=SEED, searches=SEARCHES, disagreements=0, **dict(sorted(seen.items())))
    assert MUST_HAPPEN - seen.keys() == set()
