"""Every job store keeps the contract of the port."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contracts.job_filter_contract import JobFilterContract
from tests.contracts.job_store_contract import JobStoreContract
from tests.contracts.stores import SERVERS, STORES, StoreUnderTest


@pytest.fixture(params=STORES)
def jobs(request: pytest.FixtureRequest) -> Iterator[StoreUnderTest]:
    place = request.getfixturevalue(SERVERS.get(request.param, "tmp_path"))
    with STORES[request.param](place) as under_test:
        yield under_test


class TestJobStore(JobStoreContract, JobFilterContract):
    """The whole contract, for each store."""
