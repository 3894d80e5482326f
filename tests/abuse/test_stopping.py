"""gunicorn is told to stop while requests are under way."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from tests.abuse.case import JOBS, REPORT, body, create
from tests.abuse.server import read_answer
from tests.abuse.target import a_target
from tests.abuse.under_way import has_read
from tests.postgresql import own_schema
from tests.waiting import eventually


def test_who_waits_for_a_job_is_answered_when_the_server_is_told_to_stop_and_does_not_hold_it_up(
    amqp_url: str, postgres_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("stopping")
    with (
        own_schema(postgres_url) as store,
        a_target(directory, broker=amqp_url, store=store, redis=redis_url) as target,
        socket.create_connection(("127.0.0.1", target.server.port), timeout=20) as connection,
    ):
        job_id = create(body(REPORT))(target).document["job_id"]
        # No worker runs: it would wait for longer than any step of this test.
        request = f"GET {JOBS}/{job_id}?wait=30 HTTP/1.1\r\nHost: x\r\n{': '.join(target.as_shop)}\r\n\r\n"
        connection.sendall(request.encode())
        eventually(lambda: has_read(connection), describe="a request that is under way")

        os.kill(target.server.pid, signal.SIGTERM)

        assert read_answer(connection).status == 200
        eventually(lambda: not target.server.running, 20, "the end of the server")
        assert target.rows() == 1
