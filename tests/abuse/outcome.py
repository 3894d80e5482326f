"""What has come of cases, and the figures of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.abuse.case import Case, Statuses, Story
from tests.abuse.figures import Figures, Record
from tests.abuse.server import Answer
from tests.abuse.target import Target
from tests.waiting import eventually

ACCEPTED = 202
#: gunicorn itself refuses what is no HTTP, by a page of its own.
_BY_THE_SERVER = (4, 5, 9, 10, 15, 17, 19)
_TOO_LONG = 414


@dataclass
class Outcome:
    """The answers to all cases, and what is wrong with them, in words."""

    rows: set[int] = field(default_factory=set)
    cases: int = 0
    server_errors: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    accepted: set[str] = field(default_factory=set)

    def add(self, case: Case | Story, answers: Sequence[Answer]) -> None:
        """Judge the answers to a case."""
        expected = [case.expected] if isinstance(case, Case) else case.expected
        created = {answer.document["job_id"] for answer in answers if answer.status == ACCEPTED}
        faults = [fault for one in zip(answers, expected, strict=True) for fault in _faults(case.row, *one)]
        if isinstance(case, Story):
            faults += case.faults(answers) if not faults else []
            faults += [f"{len(created)} jobs"] if len(created) != case.jobs else []
        self.rows.add(case.row)
        self.cases += 1
        self.accepted |= created
        self.wrong += [f"{case}: {', '.join(faults)}"] if faults else []
        asked_for = {status for statuses in expected for status in statuses}
        self.server_errors += [
            f"{case}: {answer.status}" for answer in answers if answer.status >= 500 and answer.status not in asked_for
        ]


def _faults(row: int, answer: Answer, expected: Statuses) -> list[str]:
    wrong = [f"status {answer.status}"] if answer.status not in expected else []
    by_the_server = row in _BY_THE_SERVER or answer.status == _TOO_LONG
    if answer.status >= 400 and answer.body and not by_the_server:
        told = (answer.headers.get("content-type"), answer.headers.get("cache-control"))
        if told != ("application/problem+json", "no-store") or answer.document["status"] != answer.status:
            wrong.append("no problem document of ours")
    if answer.status == 401 and "www-authenticate" not in answer.headers:
        wrong.append("401 without WWW-Authenticate")
    if answer.status == 405 and "allow" not in answer.headers:
        wrong.append("405 without Allow")
    if answer.status in (429, 503) and not answer.headers.get("retry-after", "").isdecimal():
        wrong.append(f"{answer.status} without Retry-After in seconds")
    return wrong


def outcome_of(cases: Iterable[Case | Story], target: Target) -> Outcome:
    """Send all of them."""
    outcome = Outcome()
    for case in cases:
        answers = [case.send(target)] if isinstance(case, Case) else case.send(target)
        outcome.add(case, answers)
    return outcome


def assert_clean(
    outcome: Outcome, target: Target, before: set[str], record: Record, *, all_knocked: bool = True
) -> None:
    """Tell the figures, and fail unless all is right.

    ``before`` are the jobs that were there before the cases. A message for each follows in the background; not all are
    ``all_knocked`` where a worker's sweep has to find some.
    """
    rows = target.job_ids() - before
    eventually(lambda: not all_knocked or rows <= set(target.knocked_ids()), describe="a message for each job")
    created, published = rows - outcome.accepted, set(target.knocked_ids()) - before - outcome.accepted
    Figures(
        rows=tuple(sorted(outcome.rows)),
        cases=outcome.cases,
        server_errors=len(outcome.server_errors),
        wrong=len(outcome.wrong),
        created=len(created),
        published=len(published),
    ).tell(record)
    assert not outcome.server_errors, "\n".join(outcome.server_errors)
    assert not outcome.wrong, "\n".join(outcome.wrong)
    assert (created, published) == (set(), set())
    assert outcome.accepted <= rows, "a 202 without a row"
