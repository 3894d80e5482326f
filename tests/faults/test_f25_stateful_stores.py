"""F25: whatever is done to a job store, in whatever order, it answers as the lifecycle decides."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.contracts.stores import SERVERS, STORES, StoreUnderTest
from tests.faults.conftest import Report
from tests.faults.sizes import SEED, size
from tests.faults.store_machine import StoreMachine
from tests.faults.watched_store import OpenStore

# To make a long failing example short takes its time.
pytestmark = pytest.mark.timeout(size(600, 3_600))

# The same in each run of the fast size: one by which few searches see all that must happen.
FIRST = size(25, SEED)
SEARCHES = size(3, 50)
# In few searches something may not have happened by chance: then there are more.
MOST_SEARCHES = 3 * SEARCHES
# Few in each search: from the tenth on, most are variations of earlier ones.
EXAMPLES = 10
STEPS = size(30, 50)

MUST_HAPPEN = {
    *("created", "created_again", "claimed", "claims_refused", "renewed", "renewals_refused", "swept"),
    *("finished", "finished_refused", "finished_overtaken", "reaped", "reaped_refused", "reaped_overtaken"),
    *("claims_repeated", "finished_again", "cancelled_running", "cancels_refused"),
    *("postponed", "postponements_refused", "given_up", "notices_put_off", "notices_given_up"),
    *("notices", "settled", "cancelled", "requeued", "discarded", "deleted"),
    *("requeued_by_filter", "discarded_by_filter"),
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
    searches = 0
    while searches < SEARCHES or (searches < MOST_SEARCHES and MUST_HAPPEN - seen.keys()):
        search(open_store, FIRST + searches, seen)
        searches += 1
    report("F25", store=name, seed=FIRST, searches=searches, disagreements=0, **dict(sorted(seen.items())))
    assert MUST_HAPPEN - seen.keys() == set()
