"""The job queue in memory keeps the contract of the port."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contracts.dead_letters_contract import DeadLettersContract
from tests.contracts.job_claims_contract import JobClaimsContract
from tests.contracts.job_queue_contract import JobQueueContract
from tests.contracts.queues import QueueUnderTest, memory_queue


@pytest.fixture
def jobs() -> Iterator[QueueUnderTest]:
    with memory_queue() as under_test:
        yield under_test


class TestMemoryJobQueue(JobQueueContract, JobClaimsContract, DeadLettersContract):
    """The whole contract."""
