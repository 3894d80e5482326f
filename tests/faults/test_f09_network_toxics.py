"""F09: the network delays, loses and breaks what the application and the workers say to the broker and to the store."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from portico_celery.exceptions import StoreUnavailable
from tests.faults.conftest import Report
from tests.faults.sizes import FULL, TIMEOUT, chances, size
from tests.faults.steady_client import a_steady_client
from tests.faults.system import System, a_system
from tests.faults.tcp_proxy import TCPProxy
from tests.faults.toxics import TOXICS
from tests.faults.verdict import judge
from tests.postgresql import PrivatePostgreSQL
from tests.services import PrivateRedis
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(2 * TIMEOUT)

BROKER_LINKS = ("app-broker", "worker-broker")
STORE_LINKS = ("app-store", "worker-store")
LINKS = (*BROKER_LINKS, *STORE_LINKS)
TOXIC_SECONDS = size(2.0, 10.0)
CREATES_PER_SECOND = 50
SECONDS = 90.0
#: Promised are 2.5 s; the rest is for a busy machine. The fast size runs beside other tests.
MOST_SECONDS = size(6.0, 4.0)


@dataclass(kw_only=True)
class Cell:
    """What came of one toxic on one link."""

    link: str
    toxic: str
    bites: int
    accepted: int
    errors: list[Exception]
    max_call: float
    dup_exec: int
    recovered_in: float


@dataclass(kw_only=True)
class Network:
    """A system whose connections run through proxies, and what has befallen it."""

    system: System
    proxies: dict[str, TCPProxy]
    chance: random.Random
    attempted: list[str] = field(default_factory=list)

    def endure(self, link: str, name: str) -> Cell:
        """Let a toxic work on a link while jobs are created and run; return when all of them have ended."""
        accepted, toxic = len(self.system.ledger.accepted), TOXICS[name](self.chance)
        duplicates = judge(self.system).dup_exec
        with a_steady_client(
            self.system,
            f"F09 {link} {name}",
            per_second=CREATES_PER_SECOND,
            threads=4,
            payload={"seconds": 0.02},
            max_retries=20,
        ) as client:
            until = time.monotonic() + TOXIC_SECONDS
            with self.proxies[link].under(toxic):
                eventually(lambda: time.monotonic() > until, 2 * TOXIC_SECONDS)
        over = time.monotonic()
        self.attempted += client.attempted
        try:
            self.system.wait_until_all_ended(SECONDS)
        except AssertionError as error:
            error.add_note(f"the toxic was {name} on {link}")
            raise
        return Cell(
            link=link,
            toxic=name,
            bites=toxic.bites,
            accepted=len(self.system.ledger.accepted) - accepted,
            errors=client.errors,
            max_call=max(client.seconds),
            dup_exec=judge(self.system).dup_exec - duplicates,
            recovered_in=time.monotonic() - over,
        )


def through(url: str, proxy: TCPProxy) -> str:
    """Return the URL of the same server, reached through a proxy."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{proxy.port}")).geturl()


@contextmanager
def a_network(name: str, broker_url: str, store_url: str, directory: Path) -> Iterator[Network]:
    with ExitStack() as stack:
        proxies = {}
        urls = dict.fromkeys(BROKER_LINKS, broker_url) | dict.fromkeys(STORE_LINKS, store_url)
        for link in LINKS:
            proxies[link] = stack.enter_context(TCPProxy(urlsplit(urls[link]).port or 0))
            urls[link] = through(urls[link], proxies[link])
        system = stack.enter_context(a_system(urls["app-broker"], urls["app-store"], directory))
        workers = {"FAULT_BROKER": urls["worker-broker"], "FAULT_STORE": urls["worker-store"]}
        system.workers.environment = {**system.workers.environment, **workers}
        yield Network(system=system, proxies=proxies, chance=chances(name))


def figure(network: Network, cells: list[Cell], survived: bool, servers: str, report: Report) -> None:
    verdict = judge(network.system, attempted=network.attempted)
    errors = [error for cell in cells for error in cell.errors]
    worst = max(cells, key=lambda cell: cell.max_call)
    slowest = max(cells, key=lambda cell: cell.recovered_in)
    report(
        "F09",
        servers=servers,
        cells=len(cells),
        accepted=verdict.acked,
        ok=verdict.ok,
        lost=verdict.lost,
        unexpected=verdict.unexpected,
        refused=len(errors),
        max_call=f"{worst.max_call:.1f}s({worst.link},{worst.toxic})",
        recovered_in=f"{slowest.recovered_in:.1f}s({slowest.link},{slowest.toxic})",
        dup_exec=verdict.dup_exec,
        worker_exits=0 if survived else 1,
    )
    assert [cell for cell in cells if not cell.bites] == [], "a toxic that met nobody"
    assert all(isinstance(error, StoreUnavailable) for error in errors), errors
    assert worst.max_call < MOST_SECONDS
    assert (verdict.ok, verdict.lost, verdict.unexpected) == (verdict.acked, 0, 0)
    # The broker alone never makes a job run twice, and never makes a client wait, let alone fail.
    of_the_broker = [cell for cell in cells if cell.link.endswith("broker")]
    assert [cell for cell in of_the_broker if cell.dup_exec or cell.errors] == []
    assert survived


def choose_cells(chance: random.Random) -> list[tuple[str, str]]:
    """Choose one link to a broker and one to a store, with a toxic for each; or all links with all toxics."""
    if FULL:
        return list(product(LINKS, TOXICS))
    links = (chance.choice(BROKER_LINKS), chance.choice(STORE_LINKS))
    return list(zip(links, chance.sample(list(TOXICS), len(links)), strict=True))


def endure_all(network: Network, servers: str, report: Report) -> None:
    worker = network.system.workers.start("threads", 4)
    cells = [network.endure(link, toxic) for link, toxic in choose_cells(network.chance)]
    figure(network, cells, worker.running, servers, report)


def test_no_job_is_lost_and_no_call_hangs_whatever_the_network_does_to_rabbitmq_and_postgresql(
    broker_url: str, private_postgresql: Callable[..., PrivatePostgreSQL], tmp_path: Path, report: Report
) -> None:
    with a_network("F09 rabbitmq", broker_url, private_postgresql().url, tmp_path) as network:
        endure_all(network, "rabbitmq,postgresql", report)


def test_no_job_is_lost_and_no_call_hangs_whatever_the_network_does_to_redis(
    private_redis: Callable[..., PrivateRedis], redis_store: str, tmp_path: Path, report: Report
) -> None:
    with a_network("F09 redis", private_redis().url, redis_store, tmp_path) as network:
        endure_all(network, "redis,redis", report)
