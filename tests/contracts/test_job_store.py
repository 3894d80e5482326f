"""Every job store keeps the contract of the port."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.job_store_contract import JobStoreContract
from tests.contracts.stores import STORES, StoreUnderTest


@pytest.fixture(params=STORES)
def jobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreUnderTest]:
    with STORES[request.param](tmp_path) as under_test:
        yield under_test


class TestJobStore(JobStoreContract):
    """The whole contract, for each store."""
