"""Row 53: how long it takes to say that there is no such job. The ratio is printed, and decides nothing."""

from __future__ import annotations

import statistics
import time
from uuid import uuid4

from tests.abuse.case import JOBS, REPORT, body, create
from tests.abuse.target import Target

ASKED = 100


def seconds_for(target: Target, path: str) -> float:
    """Ask for a job as one whose it is not, and take the time."""
    began = time.perf_counter()
    assert target.server.send("GET", path, b"", [target.as_other]).status == 404
    return time.perf_counter() - began


def test_anothers_job_is_refused_as_one_that_never_was_and_it_is_told_how_long_each_takes(target: Target) -> None:
    job_id = create(body(REPORT))(target).document["job_id"]

    # In turn, so that whatever else the machine does slows down both.
    taken = [(seconds_for(target, f"{JOBS}/{job_id}"), seconds_for(target, f"{JOBS}/{uuid4()}")) for _ in range(ASKED)]

    others, nobodys = (statistics.median(times) for times in zip(*taken, strict=True))
    print(f"job of another: {others * 1_000:.2f} ms, of nobody: {nobodys * 1_000:.2f} ms, {others / nobodys:.2f}")  # noqa: T201  # the figures
