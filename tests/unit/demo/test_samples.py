"""When the demo says that a job did not end as it should."""

from __future__ import annotations

from typing import Any

import pytest

from portico_celery.demo.samples import Expectation, fault_of
from portico_celery.ports.job import JobStatus

AS_IT_SHOULD = {
    "status": "completed",
    "retry_count": 2,
    "error_message": "Refused: no",
    "scheduled_at": "2024-03-01T09:00:00+00:00",
    "started_at": "2024-03-01T09:00:00.100000+00:00",
}
EXPECTED = Expectation(title="an import", status=JobStatus.COMPLETED, retries=2)


def test_a_job_that_ended_as_it_should_has_no_fault() -> None:
    assert fault_of(EXPECTED, AS_IT_SHOULD) is None
    assert fault_of(EXPECTED, {**AS_IT_SHOULD, "scheduled_at": None}) is None


@pytest.mark.parametrize(
    ("difference", "fault"),
    [
        ({"status": "failed"}, "is failed, and should be completed: Refused: no"),
        ({"retry_count": 0}, "was retried 0 times, and should have been 2 times"),
        ({"started_at": "2024-03-01T08:59:59+00:00"}, "and should not have before 2024-03-01T09:00:00+00:00"),
    ],
)
def test_a_job_that_ended_otherwise_is_told_of(difference: dict[str, Any], fault: str) -> None:
    assert fault in (fault_of(EXPECTED, {**AS_IT_SHOULD, **difference}) or "")


def test_an_earlier_run_may_have_retried_a_job_more_often() -> None:
    assert fault_of(Expectation(title="left open"), {**AS_IT_SHOULD, "retry_count": 4}) is None
