"""The webhook with real PostgreSQL, Redis and RabbitMQ."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.abuse.target import Target, a_target
from tests.integration.worker_process import ROOT
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


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    """Jobs that stay in this process's memory, open to everybody."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PORTICO_", "CELERY_"))},
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "PORTICO_APP": "tests.abuse.abuse_app:app",
        "PORTICO_WEBHOOK_AUTH": "none",
        "ABUSE_BROKER": "portico-memory://",
        "ABUSE_STORE": "memory://",
        "ABUSE_QUEUE": "listening",
    }
