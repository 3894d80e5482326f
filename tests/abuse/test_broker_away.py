"""Row 52: the broker stops under the webhook, and comes back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.abuse.case import REPORT, Case, body, create
from tests.abuse.figures import Record
from tests.abuse.outcome import assert_clean, outcome_of
from tests.abuse.private_node import BROKER_PASSWORD
from tests.abuse.target import Target, a_target
from tests.postgresql import own_schema
from tests.services import PrivateRabbitMQ
from tests.waiting import eventually

JOBS_WITHOUT = 40


def broker_seen(target: Target) -> bool:
    """Whether the webhook believes that the broker answers."""
    answer = target.server.send("GET", "/health/ready")
    assert answer.status == 200, "jobs are accepted without a broker"
    return bool(answer.document["broker"])


def test_while_the_broker_is_stopped_it_is_202_and_afterwards_each_job_has_its_message(
    secret_node: PrivateRabbitMQ,
    postgres_url: str,
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
    record_property: Record,
) -> None:
    node, directory = secret_node, tmp_path_factory.mktemp("away")
    with (
        own_schema(postgres_url) as store,
        a_target(directory, broker=node.url, store=store, redis=redis_url) as target,
    ):
        post, processes = create(body(REPORT)), target.server.children
        with ThreadPoolExecutor(10) as threads:
            # So many that both processes have connections to the broker.
            known = {answer.document["job_id"] for answer in threads.map(lambda _: post(target), range(20))}
        eventually(lambda: set(target.knocked_ids()) == known, describe="their messages")
        node.stop()

        outcome = outcome_of([Case(52, f"{number}", post, (202,)) for number in range(JOBS_WITHOUT)], target)

        eventually(lambda: not broker_seen(target), describe="a broker that is seen to be away")
        node.start()
        eventually(lambda: target.messages() == target.rows(), 60, lambda: f"{target.messages()} of {target.rows()}")
        eventually(lambda: broker_seen(target), describe="a broker that is seen again")
        assert target.rows() == len(known) + JOBS_WITHOUT
        assert_clean(outcome, target, known, record_property)
        assert target.server.children == processes, "it has been restarted"
        assert BROKER_PASSWORD not in target.server.log
