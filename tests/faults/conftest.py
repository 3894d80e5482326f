"""Fixtures for the tests of faults, and the lines of figures that they print."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.sizes import FULL, SEED
from tests.postgresql import own_schema
from tests.services import RABBITMQ, PrivateRabbitMQ, PrivateRedis, needed

_lines: list[str] = []

Report = Callable[..., None]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _lines:
        terminalreporter.section(f"faults, {'full' if FULL else 'fast'} size, PORTICO_FAULTS_SEED={SEED}")
    for line in _lines:
        terminalreporter.write_line(line)


@pytest.fixture
def report() -> Report:
    """Print a line of figures: ``report("F01", lost=0)``."""

    def add(name: str, **figures: object) -> None:
        _lines.append(" ".join([name, *(f"{key}={value}" for key, value in figures.items())]))

    return add


@pytest.fixture(scope="session")
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a RabbitMQ node of these tests' own, for those that do no harm to it."""
    with needed(RABBITMQ, {}), PrivateRabbitMQ(tmp_path_factory.mktemp("rabbitmq")) as node:
        yield node.url


@pytest.fixture
def postgres_store(postgres_url: str) -> Iterator[str]:
    """The URL of a store on PostgreSQL."""
    with own_schema(postgres_url) as url:
        yield url


@pytest.fixture
def redis_store(private_redis: Callable[..., PrivateRedis]) -> str:
    """The URL of a store on Redis."""
    return private_redis().url


@pytest.fixture
def sqlite_store(tmp_path: Path) -> str:
    """The URL of a store in a file."""
    return f"sqlite:///{tmp_path / 'jobs.db'}"
