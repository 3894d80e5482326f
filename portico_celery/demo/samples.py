"""The sample jobs, how each should end, and whether it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from portico_celery.demo.shop import EMAIL, IMPORT, UNREACHABLE
from portico_celery.demo.web_server import orders_path
from portico_celery.ports.job import Job, JobStatus

MAIL = {"recipient": "ana@example.org", "subject": "Your order", "body": "It is on its way."}
_SECONDS_AHEAD = 2


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """How a job should end. ``retries`` is None where a demo that was killed may have added some."""

    title: str
    status: JobStatus = JobStatus.COMPLETED
    retries: int | None = None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A request to post; ``expectation`` is None where the webhook should refuse it."""

    title: str
    request: Mapping[str, Any]
    expectation: Expectation | None


def samples() -> list[Sample]:
    """Return the five samples, in the order in which they are posted."""
    return [
        _sample("a mail", EMAIL, MAIL),
        _sample("an import from a server in trouble", IMPORT, {"source_url": orders_path(uuid4())}, retries=2, most=5),
        _sample("a mail by a server that is down", UNREACHABLE, MAIL, JobStatus.DEAD_LETTER, retries=2, most=2),
        _sample(f"a mail in {_SECONDS_AHEAD} seconds", EMAIL, MAIL, ahead=_SECONDS_AHEAD),
        Sample(
            title="a mail with a bad payload",
            request={"job_type": EMAIL, "payload": "not an object"},
            expectation=None,
        ),
    ]


def _sample(
    title: str,
    job_type: str,
    payload: Mapping[str, Any],
    status: JobStatus = JobStatus.COMPLETED,
    *,
    retries: int = 0,
    most: int | None = None,
    ahead: float | None = None,
) -> Sample:
    request: dict[str, Any] = {"job_type": job_type, "payload": payload}
    if most is not None:
        request["max_retries"] = most
    if ahead is not None:
        request["scheduled_at"] = (datetime.now(UTC) + timedelta(seconds=ahead)).isoformat()
    return Sample(title=title, request=request, expectation=Expectation(title=title, status=status, retries=retries))


def expectation_of_open(job: Job) -> Expectation:
    """Return how a job should end that an earlier run left open."""
    status = JobStatus.DEAD_LETTER if job.job_type == UNREACHABLE else JobStatus.COMPLETED
    return Expectation(title=f"{job.job_type}, left open", status=status)


def fault_of(expectation: Expectation, document: Mapping[str, Any]) -> str | None:
    """Say what is wrong with a job, by the document that the webhook shows of it; None where all is as it should."""
    status, retries = JobStatus(document["status"]), document["retry_count"]
    if status is not expectation.status:
        return f"is {status.value}, and should be {expectation.status.value}: {document['error_message']}"
    if expectation.retries not in (None, retries):
        return f"was retried {retries} times, and should have been {expectation.retries} times"
    if _moment(document["scheduled_at"]) > _moment(document["started_at"]):
        return f"started at {document['started_at']}, and should not have before {document['scheduled_at']}"
    return None


def _moment(text: str | None) -> datetime:
    return datetime.min.replace(tzinfo=UTC) if text is None else datetime.fromisoformat(text)
