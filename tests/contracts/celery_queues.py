"""The Celery job queue on each broker, with each job store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from kombu import Connection, Exchange, Queue

from portico_celery import PorticoCelery
from portico_celery.ports.job_queue import JobQueueAdapter
from tests.contracts.dead_letters_contract import DeadLettersContract
from tests.contracts.job_claims_contract import JobClaimsContract
from tests.contracts.job_queue_contract import JobQueueContract
from tests.contracts.queue_features import IN_PROCESS, QUORUM, RABBITMQ, REDIS, Features
from tests.contracts.queues import QueueUnderTest
from tests.postgresql import own_schema

# Retries and scheduled jobs wait for the sweep.
_SWEEP_SECONDS = 0.05
# A run hears within a third of it that its job was cancelled.
_LEASE_SECONDS = 6.0


@dataclass(frozen=True, kw_only=True)
class Broker:
    """``server`` is the fixture that finds it; None where it is this process.

    ``queue_arguments`` are those of queues which are there before us, and are used as they are found.
    """

    features: Features
    server: str | None = None
    queue_arguments: Mapping[str, Any] | None = None


BROKERS = {
    "rabbitmq": Broker(features=RABBITMQ, server="amqp_url"),
    "quorum": Broker(features=QUORUM, server="amqp_url", queue_arguments={"x-queue-type": "quorum"}),
    "redis": Broker(features=REDIS, server="own_redis_url"),
    "memory": Broker(features=IN_PROCESS),
}


@contextmanager
def _sqlite(directory: Path) -> Iterator[str]:
    yield f"sqlite:///{directory / 'jobs.db'}"


@contextmanager
def _redis(url: str) -> Iterator[str]:
    yield url


STORES: dict[str, tuple[str, Callable[[Any], AbstractContextManager[str]]]] = {
    "sqlite": ("tmp_path", _sqlite),
    "postgresql": ("postgres_url", own_schema),
    "redis": ("own_redis_url", _redis),
}


class CeleryJobQueueContract(JobQueueContract, JobClaimsContract, DeadLettersContract):
    """The whole contract."""


@contextmanager
def celery_queue(request: pytest.FixtureRequest, broker_name: str, store_name: str) -> Iterator[QueueUnderTest]:
    """A queue of a new application on a broker and a store, which is cleared away afterwards."""
    broker, (place, opened) = BROKERS[broker_name], STORES[store_name]
    broker_url = request.getfixturevalue(broker.server) if broker.server else "portico-memory://"
    with (
        opened(request.getfixturevalue(place)) as store_url,
        _opened(broker, broker_url, store_url) as under_test,
    ):
        yield under_test


@contextmanager
def _opened(broker: Broker, broker_url: str, store_url: str) -> Iterator[QueueUnderTest]:
    with ExitStack() as stack:

        def portico() -> PorticoCelery:
            app = Celery(f"portico-test-{uuid4().hex}", broker=broker_url)
            app.conf.update(portico_sweep_seconds=_SWEEP_SECONDS, portico_lease_seconds=_LEASE_SECONDS)
            return stack.enter_context(closing(PorticoCelery(app, store=store_url)))

        def another() -> JobQueueAdapter:
            return portico().queue

        first = portico()
        under_test = QueueUnderTest(
            adapter=first.queue,
            features=broker.features,
            loop=stack.enter_context(asyncio.Runner()),
            settled=lambda: first.flush(10),
            another=another if broker.features.shared else None,
        )
        names = [under_test.name, f"{under_test.name}-other"]
        if broker.queue_arguments is not None:
            _make_queues(broker_url, names, broker.queue_arguments)
        if broker.server == "amqp_url":
            stack.callback(_delete_queues, broker_url, names)
        yield under_test


def _make_queues(broker_url: str, names: list[str], arguments: Mapping[str, Any]) -> None:
    with Connection(broker_url) as connection:
        for name in names:
            Queue(name, channel=connection.default_channel, queue_arguments=dict(arguments)).queue_declare()


def _delete_queues(broker_url: str, names: list[str]) -> None:
    with Connection(broker_url) as connection:
        for name in names:
            Queue(name, channel=connection.default_channel).delete()
            # Celery declares an exchange of the same name.
            Exchange(name, channel=connection.default_channel).delete()
