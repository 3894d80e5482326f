"""A job's whole way, through real processes: over HTTP into the store, by the broker to a worker, and to its end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest

from tests.integration.worker_process import POOLS, Journey, Web, Worker, a_journey

BASE_DELAY = 0.8
JITTER = 0.2


@dataclass(kw_only=True)
class Stage:
    """A worker, the web application, and what they share."""

    journey: Journey
    worker: Worker
    web: Web

    def post(self, job_type: str, payload: dict[str, Any] | None = None, **fields: Any) -> str:
        """Create a job over HTTP; returns where to ask for it."""
        answer = self.web.post("/webhooks/jobs", {"job_type": job_type, "payload": payload or {}, **fields})
        assert answer.status == 202, answer
        return str(answer.document["status_url"])

    def job(self, status_url: str) -> dict[str, Any]:
        answer = self.web.get(status_url)
        assert answer.status == 200, answer
        return dict(answer.document)

    def ended(self, status_url: str) -> tuple[dict[str, Any], list[tuple[str, int]]]:
        """Wait for the job's end; returns it, and each (status, retry count) that could be seen on its way."""
        seen: list[tuple[str, int]] = []

        def terminal() -> dict[str, Any] | None:
            job = self.job(status_url)
            if (step := (job["status"], job["retry_count"])) not in seen:
                seen.append(step)
            return job if job["status"] in ("completed", "failed", "dead_letter") else None

        return self.journey.eventually(terminal, f"the end of {status_url}"), seen

    def runs(self, job: dict[str, Any]) -> list[int]:
        """The retry counts that the handler was run with."""
        return [line.retry_count for line in self.journey.ledger(job["job_id"], "start")]

    def failures(self, job: dict[str, Any]) -> list[tuple[int, str]]:
        """The retry counts and errors that the handler's on_failure was called with."""
        return [(line.retry_count, line.detail) for line in self.journey.ledger(job["job_id"], "on_failure")]


@pytest.fixture(scope="module", params=POOLS)
def stage(request: pytest.FixtureRequest, amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    settings = {"retry_base_delay": BASE_DELAY, "retry_jitter": JITTER, "sweep_seconds": 0.2}
    with (
        a_journey(amqp_url, tmp_path_factory.mktemp(request.param), **settings) as journey,
        journey.web() as web,
        journey.worker(request.param) as worker,
    ):
        yield Stage(journey=journey, worker=worker, web=web)


def pauses(job: dict[str, Any]) -> list[float]:
    """The seconds between the end of each run and the start of the next."""
    attempts = job["attempts"]
    return [
        (datetime.fromisoformat(later["started_at"]) - datetime.fromisoformat(earlier["ended_at"])).total_seconds()
        for earlier, later in pairwise(attempts)
    ]


def is_backoff(pause: float, retry_count: int) -> bool:
    """Whether a pause is as long as the contract says. How soon after it a job starts is for test_timing to see."""
    return pause >= BASE_DELAY * (1 << retry_count) * (1 - JITTER)


def test_a_job_posted_over_http_is_completed_and_shows_its_result(stage: Stage) -> None:
    payload = {"recipient": "zsofia@example.org", "körper": ["ő", None, 1.5]}

    job, _seen = stage.ended(stage.post("journey.succeed", payload))

    assert job["status"] == "completed"
    assert job["result_data"] == {"payload": payload}
    assert job["completed_at"] >= job["started_at"] >= job["created_at"]
    assert [attempt["number"] for attempt in job["attempts"]] == [1]
    assert stage.worker.name in job["attempts"][0]["worker"]
    assert stage.runs(job) == [0]
    assert stage.failures(job) == []


def test_a_handler_that_always_raises_is_retried_with_backoff_and_ends_as_a_dead_letter(stage: Stage) -> None:
    job, seen = stage.ended(stage.post("journey.raise", max_retries=2))

    assert stage.runs(job) == [0, 1, 2]
    # A look now and then may miss one of them.
    retrying = [step for step in seen if step[0] == "retrying"]
    assert retrying
    assert set(retrying) <= {("retrying", 1), ("retrying", 2)}
    assert stage.failures(job) == [(retry_count, "RuntimeError: it does not work") for retry_count in (0, 1, 2)]
    assert (job["status"], job["retry_count"]) == ("dead_letter", 2)
    assert job["error_message"] == "RuntimeError: it does not work"
    assert job["failed_at"] is not None
    assert [attempt["number"] for attempt in job["attempts"]] == [1, 2, 3]
    assert {attempt["error"] for attempt in job["attempts"]} == {"RuntimeError: it does not work"}
    first, second = pauses(job)
    assert is_backoff(first, 0), first
    assert is_backoff(second, 1), second


def test_a_failure_that_the_handler_returns_is_final(stage: Stage) -> None:
    job, seen = stage.ended(stage.post("journey.decline", max_retries=2))

    assert (job["status"], job["retry_count"]) == ("failed", 0)
    assert "retrying" not in {status for status, _retry_count in seen}
    assert stage.runs(job) == [0]
    ((retry_count, error),) = stage.failures(job)
    assert retry_count == 0
    assert error.startswith("JobFailed: ")
    assert "no such address" in error
    assert job["result_data"] == {"reason": "no such address"}


def test_a_returned_failure_that_recommends_a_retry_is_retried(stage: Stage) -> None:
    job, _seen = stage.ended(stage.post("journey.decline", {"retry": True}, max_retries=2))

    assert (job["status"], job["retry_count"]) == ("completed", 1)
    assert stage.runs(job) == [0, 1]
    assert [retry_count for retry_count, _error in stage.failures(job)] == [0]
    assert is_backoff(pauses(job)[0], 0), pauses(job)


def test_an_exception_in_on_failure_changes_nothing_and_is_logged(stage: Stage) -> None:
    job, _seen = stage.ended(stage.post("journey.raise_twice", max_retries=1))

    assert (job["status"], job["retry_count"]) == ("dead_letter", 1)
    assert stage.runs(job) == [0, 1]
    assert [retry_count for retry_count, _error in stage.failures(job)] == [0, 1]
    assert job["error_message"] == "RuntimeError: it does not work"
    assert is_backoff(pauses(job)[0], 0), pauses(job)
    logged = [line for line in stage.worker.log.splitlines() if "on_failure_raised" in line and job["job_id"] in line]
    assert len(logged) == 2
    assert all("nobody to alert" in line for line in logged)


def test_a_job_is_the_same_to_a_client_as_over_http(stage: Stage) -> None:
    job_id = stage.journey.create("journey.succeed", {"from": "a client"})

    record = stage.journey.completed(job_id)

    shown = stage.job(f"/webhooks/jobs/{job_id}")
    assert record.job.id == UUID(shown["job_id"])
    assert record.result_data == shown["result_data"] == {"payload": {"from": "a client"}}


def test_a_dead_letter_that_is_requeued_runs_again_and_keeps_its_history(stage: Stage) -> None:
    job, _seen = stage.ended(stage.post("journey.raise", max_retries=0))

    assert stage.journey.portico.sync.requeue_job(job["job_id"])
    stage.journey.eventually(lambda: stage.runs(job) == [0, 0], "the second run")
    again = stage.journey.ended(UUID(job["job_id"]))

    assert again.job.retry_count == 0
    assert [attempt.number for attempt in again.attempts] == [1, 2]
