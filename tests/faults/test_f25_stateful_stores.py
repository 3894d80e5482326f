"""F25: whatever is done to a job store, in whatever order, it answers as the lifecycle decides."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.contracts.stores import SERVERS, STORES, StoreUnderTest
from tests.faults.conftest import Report
from tests.faults.sizes import TIMEOUT, size
from tests.faults.store_machine import StoreMachine

pytestmark = pytest.mark.timeout(TIMEOUT)

EXAMPLES, STEPS = size((60, 30), (500, 50))
# The same in each run, unless somebody names another.
SEED = int(os.environ.get("PORTICO_FAULTS_SEED") or 25)

HAPPENED = [
    *("created", "created_again", "claimed", "claims_refused", "finished", "finished_refused", "renewed"),
    *("renewals_refused", "swept", "reaped", "reaped_refused", "notices", "settled", "cancelled", "requeued"),
    *("discarded", "deleted"),
]


@pytest.mark.parametrize("name", STORES)
def test_whatever_is_done_to_a_store_it_answers_as_the_lifecycle_decides(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, report: Report
) -> None:
    seen: Counter[str] = Counter()
    numbers = count()

    def open_store() -> AbstractContextManager[StoreUnderTest]:
        directory = tmp_path / str(next(numbers))
        directory.mkdir()
        return STORES[name](request.getfixturevalue(SERVERS[name]) if name in SERVERS else directory)

    @seed(SEED)
    class Machine(StoreMachine):
        def __init__(self) -> None:
            super().__init__(open_store, seen)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    report("F25", store=name, seed=SEED, disagreements=0, **seen)
    assert [what for what in HAPPENED if not seen[what]] == []
