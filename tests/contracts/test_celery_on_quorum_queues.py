"""The Celery job queue keeps the contract of the port on quorum queues that it finds.

With one job store: what the type of a queue changes, no store can tell.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contracts.celery_queues import CeleryJobQueueContract, celery_queue
from tests.contracts.queues import QueueUnderTest


@pytest.fixture(params=["postgresql"])
def jobs(request: pytest.FixtureRequest) -> Iterator[QueueUnderTest]:
    with celery_queue(request, "quorum", request.param) as under_test:
        yield under_test


class TestCeleryOnQuorumQueues(CeleryJobQueueContract):
    """The whole contract."""
