"""gunicorn is told to stop while requests are under way."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.abuse.case import JOBS, REPORT, body, create
from tests.abuse.target import a_target
from tests.postgresql import own_schema
from tests.waiting import eventually


def test_a_request_that_is_under_way_is_answered_before_the_server_ends(
    amqp_url: str, postgres_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("stopping")
    with (
        own_schema(postgres_url) as store,
        a_target(directory, broker=amqp_url, store=store, redis=redis_url) as target,
        ThreadPoolExecutor(1) as threads,
    ):
        job_id = create(body(REPORT))(target).document["job_id"]
        # No worker runs: it waits as long as it may.
        waiting = threads.submit(target.server.send, "GET", f"{JOBS}/{job_id}?wait=4", b"", [target.as_shop])
        eventually(lambda: _established(target.server.port), describe="a request that is under way")

        os.kill(target.server.pid, signal.SIGTERM)

        assert waiting.result().status == 200
        eventually(lambda: not target.server.running, 20, "the end of the server")
        assert target.rows() == 1


def _established(port: int) -> bool:
    """Whether a connection to the port is open: 01 is ESTABLISHED in /proc/net/tcp."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(line[1].endswith(f":{port:04X}") and line[3] == "01" for line in lines)
