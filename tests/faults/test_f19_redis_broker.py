"""F19: Redis as the broker loses its clients, stands still and is full, while workers are killed."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis import Redis

from tests.faults.conftest import Report
from tests.faults.control import Control
from tests.faults.ledger import Line, percentile
from tests.faults.sizes import FULL, TIMEOUT, chances, size
from tests.faults.steady_client import a_steady_client
from tests.faults.system import System, a_system
from tests.faults.verdict import judge
from tests.faults.workers import Worker
from tests.services import PrivateRedis
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(TIMEOUT)

ROUNDS = size(1, 5)
BACKLOG = 100
CREATES_PER_SECOND = size(40, 100)
FAULT_SECONDS = size(3.0, 10.0)
CLIENTS_KILLED_EVERY = size(0.5, 1.0)
CONCURRENCY = 2
DRAIN_SECONDS = size(60.0, 240.0)
#: Whoever waited for the broker would take longer: as long as it stands still.
MOST_SECONDS = 2.5


def has_begun(starts: Iterable[Line], ids: Iterable[str]) -> bool:
    return not {line.job_id for line in starts}.isdisjoint(ids)


def wait(seconds: float) -> None:
    """Let the fault last."""
    until = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > until, 2 * seconds)


@dataclass
class PlainClient:
    """Sends tasks of plain Celery, and notes those of which it was told that they were sent."""

    control: Control
    sent: list[str] = field(default_factory=list)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send inside the block."""
        enough = threading.Event()

        def send() -> None:
            while not enough.wait(1 / CREATES_PER_SECOND):
                with suppress(Exception):  # it was told that this one was not sent
                    self.sent += self.control.send("plain.work")

        thread = threading.Thread(target=send, name="plain-client")
        thread.start()
        try:
            yield
        finally:
            enough.set()
            thread.join()


@dataclass(kw_only=True)
class Faults:
    """What befalls the broker and the workers."""

    system: System
    server: PrivateRedis
    chance: random.Random
    pair: list[Worker]
    plain: Worker
    plain_client: PlainClient
    plain_exits: int = 0

    def run(self) -> None:
        """Let each happen once, in an order of chance. Plain Celery's worker is started again where it ends of it."""
        faults = [self.kill_clients, self.pause_clients, self.freeze, self.fill_memory, self.kill_workers]
        self.chance.shuffle(faults)
        for fault in faults:
            fault()
            wait(self.chance.uniform(0.1, 0.5))
            if not self.plain.running:
                self.plain_exits += 1
                self.plain = Control(self.system).start()

    def kill_clients(self) -> None:
        for _ in range(int(FAULT_SECONDS / CLIENTS_KILLED_EVERY)):
            self._tell("CLIENT", "KILL", "TYPE", "normal")
            wait(CLIENTS_KILLED_EVERY)

    def pause_clients(self) -> None:
        self._tell("CLIENT", "PAUSE", int(FAULT_SECONDS * 500))
        wait(FAULT_SECONDS / 2)

    def freeze(self) -> None:
        self.server.freeze()
        wait(FAULT_SECONDS)
        self.server.thaw()

    def fill_memory(self) -> None:
        # In the middle of much work: what is taken out of a queue then can't be noted as taken.
        jobs = self.system.create_all([{"payload": {"seconds": 0.1}, "max_retries": 20}] * BACKLOG)
        tasks = self.plain_client.control.send("plain.work", BACKLOG)
        self.plain_client.sent += tasks
        eventually(lambda: has_begun(self.system.ledger.starts, map(str, jobs)), DRAIN_SECONDS, self.system.shown)
        eventually(lambda: has_begun(self.plain_client.control.starts, tasks), DRAIN_SECONDS, self.system.shown)
        self._tell("CONFIG", "SET", "maxmemory", "1")
        wait(FAULT_SECONDS)
        self._tell("CONFIG", "SET", "maxmemory", "0")

    def kill_workers(self) -> None:
        self.system.workers.kill(self.pair[0])
        self.system.workers.kill(self.plain)
        self.pair = [self.pair[1], self.system.workers.start(concurrency=CONCURRENCY, ready=False)]
        self.plain = Control(self.system).start()

    def _tell(self, *command: object) -> None:
        with Redis.from_url(self.server.url) as client:
            client.execute_command(*command)


def unacknowledged(server: PrivateRedis, queue_name: str) -> int:
    """Count the messages of a queue that Redis keeps for workers that are gone; they come back after an hour."""
    with Redis.from_url(server.url) as client:
        kept = [json.loads(value) for value in client.hvals("unacked")]
    return sum(routing_key == queue_name for _message, _exchange, routing_key in kept)


def test_no_job_is_lost_whatever_befalls_redis_as_the_broker(
    private_redis: Callable[..., PrivateRedis], sqlite_store: str, tmp_path: Path, report: Report
) -> None:
    server, chance = private_redis(), chances("F19")
    with a_system(server.url, sqlite_store, tmp_path) as system:
        pair = [system.workers.start(concurrency=CONCURRENCY, ready=False) for _ in range(2)]
        plain, control = PlainClient(Control(system)), Control(system)
        faults = Faults(
            system=system, server=server, chance=chance, pair=pair, plain=control.start(), plain_client=plain
        )
        for worker in [*pair, faults.plain]:
            worker.wait_until_ready()
        with (
            a_steady_client(
                system, "F19", per_second=CREATES_PER_SECOND, payload={"seconds": 0.02}, max_retries=20
            ) as client,
            plain.sending(),
        ):
            for _ in range(ROUNDS):
                faults.run()
        over = time.monotonic()
        system.wait_until_all_ended(DRAIN_SECONDS)
        drained_in = time.monotonic() - over
        verdict, exits = judge(system), sum(not worker.running for worker in faults.pair)
        control.started_in_the_end()
        control_lost = len(set(plain.sent) - {line.job_id for line in control.starts})
        kept = unacknowledged(server, system.control_queue)
    report(
        "F19",
        faults="clients_killed,paused,frozen,full,worker_killed",
        rounds=ROUNDS,
        accepted=verdict.acked,
        errors=len(client.errors),
        create_p99=f"{percentile(client.create_seconds, 0.99) * 1000:.0f}ms",
        ok=verdict.ok,
        lost=verdict.lost,
        unexpected=verdict.unexpected,
        dup_exec=verdict.dup_exec,
        bound=ROUNDS * CONCURRENCY,
        drained_in=f"{drained_in:.1f}s",
        worker_exits=exits,
        control_sent=len(plain.sent),
        control_lost=control_lost,
        control_unacked=kept,
        control_worker_exits=faults.plain_exits,
    )
    assert client.errors == []
    assert max(client.create_seconds) < MOST_SECONDS
    assert (verdict.ok, verdict.lost, verdict.unexpected) == (verdict.acked, 0, 0)
    assert verdict.dup_exec <= ROUNDS * CONCURRENCY
    assert exits == 0
    assert control_lost > 0 or not FULL, "the faults did plain Celery no harm"
