"""The webhook with real PostgreSQL, Redis and RabbitMQ."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.abuse.figures import total
from tests.abuse.private_node import node_with_password
from tests.abuse.target import Target, a_target
from tests.integration.worker_process import ROOT
from tests.postgresql import own_schema
from tests.services import PrivateRabbitMQ


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # From the tests' reports: where several processes run the tests, nothing else of theirs reaches this one.
    figures = total(report for found in terminalreporter.stats.values() for report in found)
    if figures is not None:
        terminalreporter.section("abuse of the webhook, all tests together")
        terminalreporter.write_line(str(figures))


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


@pytest.fixture(scope="package")
def secret_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRabbitMQ]:
    """A RabbitMQ of these tests' own, for those that stop it, or look at all that is sent through it."""
    with node_with_password(tmp_path_factory.mktemp("rabbitmq")) as node:
        yield node


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
