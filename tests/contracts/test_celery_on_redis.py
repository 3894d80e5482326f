"""The Celery job queue keeps the contract of the port on Redis, with each job store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contracts.celery_queues import STORES, CeleryJobQueueContract, celery_queue
from tests.contracts.queues import QueueUnderTest


@pytest.fixture(params=STORES)
def jobs(request: pytest.FixtureRequest) -> Iterator[QueueUnderTest]:
    with celery_queue(request, "redis", request.param) as under_test:
        yield under_test


class TestCeleryOnRedis(CeleryJobQueueContract):
    """The whole contract."""
