"""Fixtures for the tests of faults, and the lines of figures that they print and write into a table."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.faults.figure_table import FigureTable, Row, figures_of
from tests.faults.sizes import FIGURES, FULL, SEED
from tests.postgresql import own_schema
from tests.services import RABBITMQ, PrivateRabbitMQ, PrivateRedis, needed

_SIZE = "full" if FULL else "fast"
_RUN = f"{datetime.now(UTC):%Y-%m-%d}, {_SIZE} size, seed {SEED}"
# Figures of the full size are kept for the documentation, others only where somebody wants them.
_TABLE = os.environ.get("PORTICO_FAULTS_TABLE") or ("docs/fault-figures.md" if FULL else None)

_figures = pytest.StashKey[list[str]]()
_reports = pytest.StashKey[list[pytest.TestReport]]()

Report = Callable[..., None]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    figures: list[str] = []
    reports: list[pytest.TestReport] = []
    item.stash[_figures], item.stash[_reports] = figures, reports
    row = _row_of(item)
    if _TABLE is None or row is None:
        return (yield)
    table = FigureTable(item.config.rootpath / _TABLE, _RUN)
    # Until it is known better: a run that is broken off leaves it at that.
    table.put(row)
    answer = yield
    table.put(replace(row, figures=figures_of(reports, figures)))
    return answer


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[_reports].append(report)
    return report


def _row_of(item: pytest.Item) -> Row | None:
    module = item.getparent(pytest.Module)
    story = (module.obj.__doc__ or "") if module is not None else ""
    return Row.of(item.path.name, item.name, story, _RUN)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Print a line of figures: ``report("F01", lost=0)``."""

    def add(name: str, **figures: object) -> None:
        counted = " ".join(f"{key}={value}" for key, value in figures.items())
        request.node.user_properties.append((FIGURES, f"{name} {counted}"))
        request.node.stash[_figures].append(counted)

    return add


@pytest.fixture(scope="session")
def broker_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRabbitMQ]:
    """A RabbitMQ node of these tests' own, for those that do no harm to it."""
    directory = tmp_path_factory.mktemp("rabbitmq")
    with needed(RABBITMQ), PrivateRabbitMQ(directory) as node:
        yield node


@pytest.fixture(scope="session")
def broker_url(broker_node: PrivateRabbitMQ) -> str:
    """The URL of that node."""
    return broker_node.url


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
