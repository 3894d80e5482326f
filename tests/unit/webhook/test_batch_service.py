"""What a batch stands on: JobService.create_each."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from portico_celery.adapters.job_queue.memory_queue import MemoryJobQueueAdapter
from portico_celery.exceptions import UnknownJobType, ValidationError
from portico_celery.kits.job import HandlerRegistry, JobService
from portico_celery.ports.job import Job
from portico_celery.ports.job_reader import JobFilter


def test_what_is_wrong_with_one_job_does_not_hold_up_the_others() -> None:
    registry = HandlerRegistry()
    registry.declare("email.send", queue="mails")
    service = JobService(MemoryJobQueueAdapter(), registry=registry)
    jobs: list[Any] = [
        {"job_type": "email.send", "payload": {"n": 1}},
        {"job_type": "nobodys", "payload": {}},
        {"job_type": "email.send", "payload": object()},
        {"job_type": "email.send", "payload": {"n": 2}},
    ]

    outcomes = asyncio.run(service.create_each(jobs))

    assert [type(outcome) for outcome in outcomes] == [Job, UnknownJobType, ValidationError, Job]
    stored = asyncio.run(service.list_jobs(JobFilter(queue_name="mails"))).jobs
    assert {job.id for job in stored} == {outcome.id for outcome in outcomes if isinstance(outcome, Job)}


def test_more_than_a_store_takes_at_once_is_refused_as_a_whole() -> None:
    service = JobService(MemoryJobQueueAdapter())

    with pytest.raises(ValidationError, match="too many"):
        asyncio.run(service.create_each([{"job_type": "a", "payload": {}}] * 10_001))
    assert asyncio.run(service.create_each([])) == []
