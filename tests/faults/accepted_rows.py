"""The judgement on jobs that were created while their store failed: what was accepted is there, and runs."""

from __future__ import annotations

from portico_celery.exceptions import StoreUnavailable
from tests.faults.conftest import Report
from tests.faults.creating_clients import Answer, Answers, is_refused
from tests.faults.sizes import size
from tests.faults.system import System
from tests.faults.verdict import judge

#: The store gives a statement up after 2.3 s. A call may be several, and may wait for those before it.
MOST_SECONDS = 10.0
_DRAIN_SECONDS = size(60.0, 300.0)


def judge_creates(system: System, answers: Answers, report: Report, **figures: object) -> None:
    """Compare what clients were told with what the store has, and have all of it run."""
    rows, accepted = set(system.jobs()), set(system.ledger.accepted)
    told = answers.all
    refused = [answer for answer in told if is_refused(answer)]
    missing = accepted - rows
    system.workers.start("threads", 4)
    system.wait_until_all_ended(_DRAIN_SECONDS)
    verdict = judge(system, attempted=answers.attempted)
    report(
        "F20",
        **figures,
        attempts=len(answers.attempted),
        accepted=len(accepted),
        refused=len(refused),
        rows=len(rows),
        missing_rows=len(missing),
        lost=verdict.lost,
        unexpected=verdict.unexpected,
        longest_call=f"{longest(told):.2f}s",
    )
    assert missing == set()
    # Each of these faults may pass: the webhook says 503, and to try again.
    assert {answer.told for answer in refused} <= {StoreUnavailable.__name__}
    assert longest(told) <= MOST_SECONDS
    assert (verdict.ok, verdict.lost, verdict.unexpected) == (len(accepted), 0, 0)


def longest(answers: list[Answer]) -> float:
    """Return how long the slowest call took."""
    return max(answer.seconds for answer in answers)
