"""F25: every order of events in a model of the protocol, and that the model needs each of its guards."""

from __future__ import annotations

from functools import cache

import pytest

from tests.faults.conftest import Report
from tests.faults.model_checker import STUCK, Verdict, check
from tests.faults.protocol_model import ProtocolModel
from tests.faults.sizes import TIMEOUT, size

pytestmark = pytest.mark.timeout(TIMEOUT)

_FAST = [
    ProtocolModel(max_retries=0, workers=3),
    ProtocolModel(max_retries=1),
    ProtocolModel(max_retries=2),
]
PROTOCOLS = size(_FAST, [*_FAST, ProtocolModel(max_retries=1, workers=3), ProtocolModel(max_retries=2, workers=3)])

# What each guard is there for: the rule that is broken first without it.
ABLATIONS = {
    ProtocolModel(fenced=False): "only the attempt that holds the job writes",
    ProtocolModel(reaper_compares=False): "a terminal state is left only by a requeue",
    ProtocolModel(sweeps=False): STUCK,
    ProtocolModel(reaps=False): STUCK,
}

verdict_on = cache(check)


def is_caught(ablation: ProtocolModel) -> bool:
    violation = verdict_on(ablation).violation
    return violation is not None and violation.rule == ABLATIONS[ablation]


def must_be_caught(ablation: ProtocolModel) -> None:
    found = verdict_on(ablation)
    assert is_caught(ablation), (
        f"expected: {ABLATIONS[ablation]}\n{found.violation or f'{found.states} states, no violation'}"
    )


@pytest.mark.parametrize(
    "protocol", PROTOCOLS, ids=lambda model: f"max_retries={model.max_retries},workers={model.workers}"
)
def test_whatever_happens_in_whatever_order_no_rule_is_broken_and_no_job_is_stuck(protocol: ProtocolModel) -> None:
    violation = verdict_on(protocol).violation
    assert violation is None, f"{protocol}\n{violation}"


def test_without_the_fence_on_finish_a_stale_attempt_writes() -> None:
    must_be_caught(ProtocolModel(fenced=False))


def test_a_reaper_that_does_not_compare_overwrites_a_job_that_has_ended() -> None:
    must_be_caught(ProtocolModel(reaper_compares=False))


def test_without_the_sweep_a_job_whose_knock_is_lost_is_stuck() -> None:
    must_be_caught(ProtocolModel(sweeps=False))


def test_without_the_reaper_a_job_whose_worker_is_killed_is_stuck() -> None:
    must_be_caught(ProtocolModel(reaps=False))


def test_the_figures_of_the_model_are_printed(report: Report) -> None:
    verdicts: list[Verdict] = [verdict_on(protocol) for protocol in PROTOCOLS]
    states = sum(verdict.states for verdict in verdicts)
    violations = sum(verdict.violation is not None for verdict in verdicts)
    caught = sum(is_caught(ablation) for ablation in ABLATIONS)
    report(f"F25 states={states} violations={violations} ablations caught {caught}/{len(ABLATIONS)}")
    assert (violations, caught) == (0, len(ABLATIONS))
