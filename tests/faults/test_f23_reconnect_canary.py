"""F23: connections break in every way, in the middle of jobs, and each worker takes up a new job soon after."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from redis import Redis

from tests.faults.broken_connections import abort_sockets, can_abort_sockets
from tests.faults.conftest import Report
from tests.faults.lanes import Lane, count_completed, is_completed, start_lanes
from tests.faults.rabbitmqctl import close_all_connections
from tests.faults.sizes import TIMEOUT, chances, size
from tests.faults.system import System, a_system
from tests.services import PrivateRabbitMQ, PrivateRedis
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(TIMEOUT)

POOLS = ("threads", "prefork")
CONCURRENCY = 2
BUSY_JOBS = 3 * CONCURRENCY
#: A worker tries to connect after 2, 4, 6, 8 s: where the broker takes long to start, its next try is long in coming.
CANARY_SECONDS = size(20.0, 10.0)
#: Which ways, and how often.
TIMES = size({"close": 1, "abort": 1, "restart": 1}, {"close": 20, "abort": 20, "restart": 10})

Fault = Callable[[], object]


def in_an_order_of_chance(ways: dict[str, Fault], name: str) -> list[tuple[str, Fault]]:
    order = [way for way in ways for _ in range(TIMES[way])]
    chances(name).shuffle(order)
    return [(way, ways[way]) for way in order]


class Canaries:
    """Keeps the workers busy, and sends each a canary after a fault."""

    def __init__(self, system: System, name: str) -> None:
        self._system = system
        self._chance = chances(f"{name} jobs")
        self.lanes: list[Lane] = start_lanes(system, POOLS, CONCURRENCY)
        self.jobs: list[UUID] = []
        self.seconds: list[float] = []
        self.stalled: list[str] = []

    def occupy(self) -> None:
        """Give each worker more than it can do at once, and return when it is in the middle of it."""
        for lane in self.lanes:
            times = [self._chance.uniform(0.1, 0.6) for _ in range(BUSY_JOBS)]
            created = self._system.create_all(
                {"queue_name": lane.queue, "payload": {"seconds": seconds}} for seconds in times
            )
            self.jobs += created
            names = set(map(str, created))
            eventually(lambda names=names: self._has_begun(names), CANARY_SECONDS, self._system.shown)  # type: ignore[misc]

    def _has_begun(self, names: set[str]) -> bool:
        return any(line.job_id in names for line in self._system.ledger.starts)

    def send(self, fault: str) -> None:
        """Create a job for each worker, and note how long it takes."""
        began = time.monotonic()
        canaries = [(lane, self._system.create(queue_name=lane.queue)) for lane in self.lanes]
        for lane, job_id in canaries:
            eventually(lambda job_id=job_id: self._is_over(job_id, began), 2 * CANARY_SECONDS)  # type: ignore[misc]
            self.seconds.append(time.monotonic() - began)
            if not is_completed(self._system, job_id):
                self.stalled.append(f"{lane.pool} after {fault}")

    def _is_over(self, job_id: UUID, began: float) -> bool:
        return is_completed(self._system, job_id) or time.monotonic() > began + CANARY_SECONDS


def strike_and_judge(system: System, broker: str, ways: dict[str, Fault], report: Report) -> None:
    canaries = Canaries(system, f"F23 {broker}")
    faults = in_an_order_of_chance(ways, f"F23 {broker}")
    for way, strike in faults:
        canaries.occupy()
        strike()
        canaries.send(way)
    eventually(lambda: count_completed(system, canaries.jobs) == len(canaries.jobs), 30, system.shown)
    starts, sent = system.ledger.start_counts(), len(faults) * len(POOLS)
    exits = sum(not lane.worker.running for lane in canaries.lanes)
    report(
        "F23",
        broker=broker,
        **{way: sum(struck == way for struck, _ in faults) for way in TIMES},
        canaries=f"{sent - len(canaries.stalled)}/{sent}",
        stalled_workers=len(canaries.stalled),
        worker_exits=exits,
        slowest=f"{max(canaries.seconds):.1f}s",
        jobs=len(starts),
        dup_exec=starts.total() - len(starts),
    )
    assert canaries.stalled == [], system.shown()
    assert exits == 0
    assert starts.total() == len(starts)


def test_each_worker_takes_up_jobs_after_its_connection_to_rabbitmq_broke(
    private_rabbitmq: Callable[..., PrivateRabbitMQ], sqlite_store: str, tmp_path: Path, report: Report
) -> None:
    node = private_rabbitmq()

    def restart() -> None:
        node.kill()
        node.start()

    ways: dict[str, Fault] = {"close": partial(close_all_connections, node), "restart": restart}
    if can_abort_sockets():
        ways["abort"] = partial(abort_sockets, node.port)
    with a_system(node.url, sqlite_store, tmp_path) as system:
        strike_and_judge(system, "rabbitmq", ways, report)


def test_each_worker_takes_up_jobs_after_its_connection_to_redis_broke(
    private_redis: Callable[..., PrivateRedis], sqlite_store: str, tmp_path: Path, report: Report
) -> None:
    server = private_redis()

    def close() -> None:
        with Redis.from_url(server.url) as client:
            for kind in ("normal", "pubsub"):
                client.client_kill_filter(_type=kind, skipme=True)

    def restart() -> None:
        server.kill()
        server.start()

    ways: dict[str, Fault] = {"close": close, "restart": restart}
    if can_abort_sockets():
        ways["abort"] = partial(abort_sockets, server.port)
    with a_system(server.url, sqlite_store, tmp_path) as system:
        strike_and_judge(system, "redis", ways, report)
