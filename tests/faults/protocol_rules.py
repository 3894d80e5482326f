"""What must hold at every step of the protocol."""

from __future__ import annotations

from collections.abc import Callable

from portico_celery.ports.job import JobStatus
from tests.faults.model_checker import Step
from tests.faults.protocol_state import State

Holds = Callable[[State, Step[State], int], bool]


def _left_only_by_requeue(before: State, step: Step[State], _max_retries: int) -> bool:
    left = before.row.terminal and step.state.row.status is not before.row.status
    return not left or step.state.requeues > before.requeues


def _written_by_its_holder(before: State, step: Step[State], _max_retries: int) -> bool:
    if step.writer is None or step.state.row == before.row:
        return True
    return step.writer == before.row.attempt and (before.row.status is JobStatus.RUNNING or before.row.owes_notice)


def _starts_once(_before: State, step: Step[State], max_retries: int) -> bool:
    return max_retries > 0 or step.state.starts <= 1


def _starts_within_retries(_before: State, step: Step[State], max_retries: int) -> bool:
    return step.state.starts <= max_retries + 1


def _told_before_rest(_before: State, step: Step[State], _max_retries: int) -> bool:
    return not (step.state.at_rest and step.state.untold)


def _reaped_after_its_lease(before: State, step: Step[State], _max_retries: int) -> bool:
    lost = step.state.untold > before.untold
    return not (lost and before.row.leased)


def _cancelled_in_time(before: State, step: Step[State], _max_retries: int) -> bool:
    cancels = step.state.cancelled and not before.cancelled
    return not (cancels and before.row.status is JobStatus.RUNNING)


RULES: dict[str, Holds] = {
    "a terminal state is left only by a requeue": _left_only_by_requeue,
    "a life has at most one terminal transition": lambda _before, step, _: step.state.ends <= 1,
    "the attempt never goes back": lambda before, step, _: step.state.row.attempt >= before.row.attempt,
    "only the attempt that holds the job writes": _written_by_its_holder,
    "no job is taken from a worker whose lease is alive": _reaped_after_its_lease,
    "a job with max_retries=0 starts at most once": _starts_once,
    "a job starts once and once more for each retry": _starts_within_retries,
    "a cancelled job never starts": lambda before, step, _: not before.cancelled or step.state.starts <= before.starts,
    "a job that runs is not cancelled": _cancelled_in_time,
    "no job comes to rest before its handler has heard of the lost worker": _told_before_rest,
}


def broken_rule(before: State, step: Step[State], max_retries: int) -> str | None:
    """Return the first rule that a step breaks, or None."""
    for rule, holds in RULES.items():
        if not holds(before, step, max_retries):
            return rule
    return None
