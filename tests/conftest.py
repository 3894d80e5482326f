"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from uuid import uuid4

import pytest
from kombu import Connection, Exchange, Queue

from tests.faults.sizes import FIGURES, FULL, SEED
from tests.postgresql import POSTGRESQL, PrivatePostgreSQL
from tests.services import RABBITMQ, REDIS, PrivateRabbitMQ, PrivateRedis, needed, skip_reason

_SERVICES = (RABBITMQ, REDIS, POSTGRESQL)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # From the tests' reports: where several processes run the tests, nothing else of theirs reaches this one.
    reports = [report for found in terminalreporter.stats.values() for report in found]
    lines = [line for report in reports for name, line in getattr(report, "user_properties", ()) if name == FIGURES]
    if lines:
        terminalreporter.section(f"faults, {'full' if FULL else 'fast'} size, PORTICO_FAULTS_SEED={SEED}")
    # Set-up, call and teardown each report what a test has told by then.
    for line in sorted(set(lines)):
        terminalreporter.write_line(line)
    _tell_of_missing_services(terminalreporter, reports)


def _tell_of_missing_services(terminalreporter: pytest.TerminalReporter, reports: Iterable[object]) -> None:
    reasons = [str(getattr(report, "longrepr", "")) for report in reports if getattr(report, "skipped", False)]
    for service in _SERVICES:
        if any(skip_reason(service) in reason for reason in reasons):
            line = f"NO {service.name}: EVERY TEST THAT NEEDS IT WAS SKIPPED. {service.advice}"
            terminalreporter.write_line(line, red=True, bold=True)


@pytest.fixture(scope="session")
def amqp_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real RabbitMQ. It may be one that others use too: keep to queue names of your own."""
    directory = tmp_path_factory.mktemp("rabbitmq")
    with needed(RABBITMQ), RABBITMQ.running(directory) as url:
        yield url


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Redis. It may be one that others use too: keep to a prefix of your own, and never flush."""
    directory = tmp_path_factory.mktemp("redis")
    with needed(REDIS), REDIS.running(directory) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real PostgreSQL. It may be one that others use too: keep to a schema of your own."""
    directory = tmp_path_factory.mktemp("postgresql")
    with needed(POSTGRESQL), POSTGRESQL.running(directory) as url:
        yield url


@pytest.fixture
def private_postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], PrivatePostgreSQL]]:
    """Starts servers for this test alone: ``private_postgresql()`` is a running PrivatePostgreSQL."""
    with ExitStack() as servers:

        def start() -> PrivatePostgreSQL:
            with needed(POSTGRESQL):
                return servers.enter_context(PrivatePostgreSQL(tmp_path_factory.mktemp("postgresql")))

        yield start


@pytest.fixture
def private_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., PrivateRedis]]:
    """Starts servers for this test alone: ``private_redis(maxmemory="2mb")`` is a running PrivateRedis."""
    with ExitStack() as servers:

        def start(**options: str) -> PrivateRedis:
            with needed(REDIS):
                return servers.enter_context(PrivateRedis(tmp_path_factory.mktemp("redis"), **options))

        yield start


@pytest.fixture
def queue_name(amqp_url: str) -> Iterator[str]:
    """A queue name that nobody else uses; the queue is deleted afterwards."""
    name = f"portico-test-{uuid4().hex}"
    yield name
    with Connection(amqp_url) as connection:
        Queue(name, channel=connection.default_channel).delete()
        # Celery declares an exchange of the same name.
        Exchange(name, channel=connection.default_channel).delete()


@pytest.fixture
def private_rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., PrivateRabbitMQ]]:
    """Starts nodes for this test alone: ``private_rabbitmq(config={...})`` is a running PrivateRabbitMQ."""
    with ExitStack() as nodes:

        def start(config: Mapping[str, str] | None = None) -> PrivateRabbitMQ:
            with needed(RABBITMQ):
                return nodes.enter_context(PrivateRabbitMQ(tmp_path_factory.mktemp("rabbitmq"), config))

        yield start
