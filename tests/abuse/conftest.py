"""The webhook with real PostgreSQL, Redis and RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.abuse.target import Target, a_target
from tests.postgresql import own_schema


@pytest.fixture(scope="package")
def target(
    amqp_url: str, postgres_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    directory = tmp_path_factory.mktemp("abuse")
    with (
        own_schema(postgres_url) as store,
        a_target(directory, broker=amqp_url, store=store, redis=redis_url) as running,
    ):
        yield running
