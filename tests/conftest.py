"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from uuid import uuid4

import pytest
from kombu import Connection, Queue

from tests.services import RABBITMQ, PrivateRabbitMQ, Service, needed

_missing = pytest.StashKey[dict[str, Service]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_missing] = {}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for service in config.stash[_missing].values():
        line = f"NO {service.name}: EVERY TEST THAT NEEDS IT WAS SKIPPED. {service.advice}"
        terminalreporter.write_line(line, red=True, bold=True)


@pytest.fixture(scope="session")
def amqp_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real RabbitMQ. It may be one that others use too: keep to queue names of your own."""
    directory = tmp_path_factory.mktemp("rabbitmq")
    with needed(RABBITMQ, request.config.stash[_missing]), RABBITMQ.running(directory) as url:
        yield url


@pytest.fixture
def queue_name(amqp_url: str) -> Iterator[str]:
    """A queue name that nobody else uses; the queue is deleted afterwards."""
    name = f"portico-test-{uuid4().hex}"
    yield name
    with Connection(amqp_url) as connection:
        Queue(name, channel=connection.default_channel).delete()


@pytest.fixture
def private_rabbitmq(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., PrivateRabbitMQ]]:
    """Starts nodes for this test alone: ``private_rabbitmq(config={...})`` is a running PrivateRabbitMQ."""
    with ExitStack() as nodes:

        def start(config: Mapping[str, str] | None = None) -> PrivateRabbitMQ:
            with needed(RABBITMQ, request.config.stash[_missing]):
                return nodes.enter_context(PrivateRabbitMQ(tmp_path_factory.mktemp("rabbitmq"), config))

        yield start
