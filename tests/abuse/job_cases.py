"""Rows of the addresses of jobs: what is not there, what is another's, and what has ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import uuid4

from tests.abuse.case import JOBS, REPORT, Case, Story, ask, body, create, in_order
from tests.abuse.server import Answer
from tests.abuse.target import Target

#: What may differ between two answers that say the same.
_OF_THE_MOMENT = ("date", "x-request-id")


def job_cases() -> Iterator[Case | Story]:
    for path in ("not-a-uuid", str(uuid4()), "a" * 3_000, "%00", "..%2f..%2f", "{}"):
        yield Case(54, f"job {path[:10]}", ask("GET", f"{JOBS}/{path}"), (404,))
    yield Case(54, "job of 10 kB", ask("GET", f"{JOBS}/{'a' * 10_000}"), (404, 414))
    for query in ("limit=0", "limit=-1", "limit=a", "status=x", "cursor=x", "other=1", "cursor=%00"):
        yield Case(54, f"list {query}", ask("GET", f"{JOBS}?{query}"), (400,))
    for action in ("cancel", "requeue", "destroy"):
        yield Case(55, f"{action} nobody's", ask("POST", f"{JOBS}/{uuid4()}/{action}"), (404,))


def others_cases() -> Iterator[Story]:
    for method, action in (("GET", ""), ("GET", "?wait=1"), ("POST", "/cancel"), ("POST", "/requeue")):
        row = 53 if method == "GET" else 55
        send = _Others(method, action)
        yield Story(row, f"{method} another's{action}", send, in_order(202, 404, 404), 1, like_nobodys)
    yield Story(53, "a list without another's", listed, in_order(202, 200), 1, not_in_the_list)
    yield Story(55, "cancel one that has ended", ended, in_order(202, 200, 409), 1)
    yield Story(55, "requeue one that waits", requeued, in_order(202, 409), 1)


class _Others:
    """Asks for the job of another, and for one that never was."""

    def __init__(self, method: str, action: str) -> None:
        self._method = method
        self._action = action

    def __call__(self, target: Target) -> list[Answer]:
        created = create(body(REPORT))(target)
        paths = [f"{JOBS}/{job_id}{self._action}" for job_id in (created.document["job_id"], uuid4())]
        return [created, *(target.server.send(self._method, path, b"", [target.as_other]) for path in paths)]


def like_nobodys(answers: Sequence[Answer]) -> list[str]:
    """Expect the last two answers to tell nothing by which they could be told apart."""
    _, others, nobodys = answers
    same = _shown(others) == _shown(nobodys)
    return [] if same else [f"{_shown(others)} is not {_shown(nobodys)}"]


def _shown(answer: Answer) -> object:
    headers = {name: value for name, value in answer.headers.items() if name not in _OF_THE_MOMENT}
    return headers, {**answer.document, "request_id": ""}


def listed(target: Target) -> list[Answer]:
    """Create a job, and list those of another caller."""
    return [create(body(REPORT))(target), target.server.send("GET", JOBS, b"", [target.as_other])]


def not_in_the_list(answers: Sequence[Answer]) -> list[str]:
    """Expect the job not to be in the list."""
    created, page = (answer.document for answer in answers)
    return ["it is listed"] if created["job_id"] in {job["job_id"] for job in page["jobs"]} else []


def ended(target: Target) -> list[Answer]:
    """Cancel a job twice."""
    created = create(body(REPORT))(target)
    cancel = ask("POST", f"{JOBS}/{created.document['job_id']}/cancel")
    return [created, cancel(target), cancel(target)]


def requeued(target: Target) -> list[Answer]:
    """Requeue a job that waits."""
    created = create(body(REPORT))(target)
    return [created, ask("POST", f"{JOBS}/{created.document['job_id']}/requeue")(target)]
