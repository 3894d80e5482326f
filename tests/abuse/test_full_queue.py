"""Row 50: where more jobs wait than there may, no more are taken until some have gone."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest

from tests.abuse.case import REPORT, Case, body, create
from tests.abuse.figures import Record
from tests.abuse.outcome import assert_clean, outcome_of
from tests.abuse.server import Answer
from tests.abuse.target import Target, a_target
from tests.postgresql import own_schema
from tests.waiting import eventually

MOST = 3


def create_in(queue_name: str, *more: tuple[str, str], **members: object) -> Callable[[Target], Answer]:
    """Post a job for a queue."""
    return create(body({**REPORT, "queue_name": queue_name, **members}), *more)


def test_a_full_queue_says_when_to_come_back_and_takes_jobs_again_when_some_have_gone(
    amqp_url: str, postgres_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory, record_property: Record
) -> None:
    directory, most = tmp_path_factory.mktemp("full"), str(MOST)
    with (
        own_schema(postgres_url) as store,
        a_target(directory, broker=amqp_url, store=store, redis=redis_url, PORTICO_WEBHOOK_MAX_PENDING=most) as target,
    ):
        queue = target.queue_name
        # Before anything is posted: a process counts what waits, and then believes it for a second.
        target.portico.declare("report.daily", queue=queue)
        waiting = [target.portico.sync.create_job("report.daily", {}).id for _ in range(MOST)]
        before = target.job_ids()
        refused = [create_in(queue), create_in(queue, priority=9), create_in(queue, ("Idempotency-Key", uuid4().hex))]
        cases = [Case(50, f"{number}", send, (503,)) for number, send in enumerate(refused * 4)]

        outcome = outcome_of(cases, target)

        assert_clean(outcome, target, before, record_property)
        assert target.portico.sync.cancel_job(waiting[0])
        eventually(lambda: create_in(queue)(target).status == 202, 30, "a job that is accepted again")
