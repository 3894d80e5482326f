"""The Redis in which requests are counted stops, stands still, or takes no writes, while many post."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from tests.abuse.case import REPORT, body, create
from tests.abuse.target import Target, a_target
from tests.postgresql import own_schema
from tests.services import PrivateRedis, free_port
from tests.waiting import eventually

CLIENTS = 16
#: So many answers are waited for before and after.
ENOUGH = 100
EVENT = "event=rate_limit_storage_unavailable"


def make_replica(server: PrivateRedis) -> None:
    """Make it follow a server that is not there: it takes no writes then."""
    with Redis.from_url(server.url) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", free_port())


def ask_for_replicas(server: PrivateRedis) -> None:
    """Make it take no writes without a replica, which it does not have."""
    with Redis.from_url(server.url) as client:
        client.config_set("min-replicas-to-write", 1)


FAULTS: dict[str, Callable[[PrivateRedis], None]] = {
    "stopped": PrivateRedis.stop,
    "frozen": PrivateRedis.freeze,
    "a replica": make_replica,
    "without its replicas": ask_for_replicas,
}


class Clients:
    """Post again and again, all at the same time. ``statuses`` are those of the answers."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._over = threading.Event()
        self.statuses: list[int] = []

    def answer_more(self) -> None:
        """Wait until many further requests have been answered."""
        wanted = len(self.statuses) + ENOUGH
        eventually(lambda: len(self.statuses) >= wanted, 60, lambda: f"answers: {Counter(self.statuses)}")

    def _post(self) -> None:
        while not self._over.is_set():
            self.statuses.append(create(body(REPORT))(self._target).status)

    @contextmanager
    def posting(self) -> Iterator[None]:
        """Post in the block."""
        with ThreadPoolExecutor(CLIENTS) as threads:
            posting = [threads.submit(self._post) for _ in range(CLIENTS)]
            try:
                yield
            finally:
                self._over.set()
        for one in posting:
            one.result()


@pytest.mark.parametrize("fault", FAULTS)
def test_while_nothing_can_be_counted_in_redis_all_are_served_and_the_log_says_why(
    fault: str,
    amqp_url: str,
    postgres_url: str,
    private_redis: Callable[..., PrivateRedis],
    tmp_path: Path,
) -> None:
    redis = private_redis()
    with (
        own_schema(postgres_url) as store,
        a_target(tmp_path, broker=amqp_url, store=store, redis=redis.url) as target,
    ):
        clients = Clients(target)
        with clients.posting():
            clients.answer_more()
            assert EVENT not in target.server.log
            FAULTS[fault](redis)
            eventually(lambda: EVENT in target.server.log, 30, lambda: target.server.log_tail)
            clients.answer_more()

        print(f"limits {fault}: {dict(Counter(clients.statuses))}")  # noqa: T201  # the figures
        assert set(clients.statuses) == {202}
        told = [line for line in target.server.log.splitlines() if EVENT in line]
        assert all("error=" in line and "advice=" in line for line in told)
