"""Row 51: the store stops, stands still, or takes no writes under the webhook, and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import uuid4

import psycopg
import pytest

from tests.abuse.case import REPORT, Story, ask, body, create, in_order
from tests.abuse.figures import Record
from tests.abuse.outcome import assert_clean, outcome_of
from tests.abuse.server import Answer
from tests.abuse.target import Target, a_target
from tests.postgresql import POSTGRESQL, PrivatePostgreSQL
from tests.services import needed
from tests.waiting import eventually

LONGEST_SECONDS = 2.5
# A busy machine is late now and then, but not each time. To wait twice would take longer than this.
LATE_SECONDS = 3.9
POSTS = 6
ROUNDS = 2
PASSWORD = "canary-of-the-store"


@dataclass(frozen=True)
class Away:
    """A webhook, and the store behind it."""

    target: Target
    store: PrivatePostgreSQL


@pytest.fixture(scope="module")
def away(amqp_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Away]:
    with needed(POSTGRESQL), PrivatePostgreSQL(tmp_path_factory.mktemp("postgresql")) as store:
        # It lets in everybody, with whatever password.
        url = store.url.replace("postgres@", f"postgres:{PASSWORD}@")
        directory = tmp_path_factory.mktemp("away")
        with a_target(directory, broker=amqp_url, store=url, redis=redis_url) as target:
            yield Away(target, store)


def set_read_only(value: str) -> Callable[[PrivatePostgreSQL], None]:
    """Say whether the server takes writes, also by the connections that there are."""

    def change(store: PrivatePostgreSQL) -> None:
        with psycopg.connect(store.url, autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
            connection.execute("SELECT pg_reload_conf()")

    return change


FAULTS = {
    "stopped": (PrivatePostgreSQL.stop, PrivatePostgreSQL.start),
    "frozen": (PrivatePostgreSQL.freeze, PrivatePostgreSQL.thaw),
    "read-only": (set_read_only("on"), set_read_only("off")),
}


class Burst:
    """Requests that are sent together. ``seconds`` are how long the slowest took each time."""

    def __init__(self, requests: Sequence[Callable[[Target], Answer]]) -> None:
        self._requests = requests
        self.seconds: list[float] = []

    def __call__(self, target: Target) -> list[Answer]:
        """Send them."""
        began = time.monotonic()
        with ThreadPoolExecutor(len(self._requests)) as threads:
            answers = list(threads.map(lambda send: send(target), self._requests))
        self.seconds.append(time.monotonic() - began)
        return answers


@pytest.mark.parametrize("fault", FAULTS)
def test_while_the_store_is_away_it_is_503_soon_and_afterwards_202_again(
    away: Away, fault: str, record_property: Record
) -> None:
    target, (begin, end) = away.target, FAULTS[fault]
    # With keys, as senders should: whether a store that stood still has carried out what it was told, nobody knows.
    posts = [create(body(REPORT), ("Idempotency-Key", uuid4().hex)) for _ in range(POSTS)]
    # So many that both processes have connections to the store.
    (known, *_) = Burst([create(body(REPORT))] * 20)(target)
    before, processes = target.job_ids(), target.server.children
    burst, read = Burst([*posts, ask("GET", known.headers["location"])]), 200 if fault == "read-only" else 503
    refused = Story(51, fault, burst, in_order(*[503] * POSTS, read), 0)
    begin(away.store)
    if fault == "read-only":  # each connection hears of it for itself
        eventually(lambda: 202 not in {answer.status for answer in Burst(posts)(target)})

    outcome = outcome_of([refused] * ROUNDS, target)

    assert target.server.send("GET", "/health/ready").status == read
    assert target.server.send("GET", "/health/live").status == 200
    end(away.store)
    eventually(lambda: posts[0](target).status == 202, 30, "a job that is accepted again")
    repeated = Story(51, f"after {fault}", Burst(posts), in_order(*[202] * POSTS), POSTS)
    outcome.add(repeated, repeated.send(target))
    print(f"store {fault}: 503 within {max(burst.seconds):.2f} s")  # noqa: T201  # the figure
    # What a store has carried out after we gave up is found by a worker's sweep, and there is no worker.
    assert_clean(outcome, target, before, record_property, all_knocked=fault != "frozen")
    # A store that stands still is given up after 2.3 s.
    assert (min if fault == "frozen" else max)(burst.seconds) < LONGEST_SECONDS
    assert max(burst.seconds) < LATE_SECONDS
    assert target.server.children == processes, "it has been restarted"
    assert PASSWORD not in target.server.log
