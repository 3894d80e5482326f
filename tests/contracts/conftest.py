"""What several contracts need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services import REDIS, PrivateRedis, needed


@pytest.fixture(scope="module")
def own_redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of these tests' own, whose keys need not be told from others'."""
    with needed(REDIS), PrivateRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server.url
