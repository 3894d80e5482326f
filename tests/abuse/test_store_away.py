"""The store stops under the webhook, and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.abuse.case import REPORT, body, create
from tests.abuse.target import a_target
from tests.postgresql import PrivatePostgreSQL
from tests.waiting import eventually

# 2.5 s is what is promised. A busy machine notices it somewhat late; to wait twice would take longer than this.
ONE_WAIT_SECONDS = 3.9


def test_while_the_store_is_away_it_is_503_soon_and_afterwards_202_again(
    amqp_url: str,
    redis_url: str,
    private_postgresql: Callable[[], PrivatePostgreSQL],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    server = private_postgresql()
    send = create(body(REPORT))
    with a_target(tmp_path_factory.mktemp("store"), broker=amqp_url, store=server.url, redis=redis_url) as target:
        assert send(target).status == 202
        server.stop()

        began = time.monotonic()
        away = send(target)
        took = time.monotonic() - began

        assert away.status == 503
        assert int(away.headers["retry-after"]) > 0
        assert took < ONE_WAIT_SECONDS
        assert target.server.send("GET", "/health/ready").status == 503
        assert target.server.send("GET", "/health/live").status == 200
        server.start()
        eventually(lambda: send(target).status == 202, 30, "a job that is accepted again")
        print(f"store away: status={away.status} after={took:.2f}s")  # noqa: T201  # the figure
