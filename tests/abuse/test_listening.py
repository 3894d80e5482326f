"""Where gunicorn listens by the settings that we ship, with one process and with several."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.abuse.server import Server
from tests.waiting import eventually
from webhook_app.gunicorn_conf import is_tcp


def test_one_process_says_where_it_listens_and_keeps_its_port_to_itself(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    with Server(tmp_path, environment, workers=1) as server:
        assert f"Listening at: http://127.0.0.1:{server.port}" in server.log

        second = Server(tmp_path, environment, workers=1, port=server.port)
        try:
            eventually(lambda: not second.running, 30, "the end of the second server")
        finally:
            second.kill()
        assert "Address already in use" in second.log


def test_several_processes_say_where_they_listen_and_still_do_after_a_reload(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    with Server(tmp_path, environment, workers=2) as server:
        assert f"Each of 2 processes listens at: 127.0.0.1:{server.port}" in server.log

        os.kill(server.pid, signal.SIGHUP)
        eventually(lambda: server.log.count("Booting worker") >= 4, 30, "two new workers")
        eventually(lambda: server.log.count("Worker exiting") >= 2, 30, "the end of the old workers")

        eventually(server.is_ready, 30, "an answer of the new workers")


def test_several_processes_share_a_unix_socket(tmp_path: Path, environment: Mapping[str, str]) -> None:
    path = tmp_path / "web.sock"
    with Server(tmp_path, environment, workers=2, also_at=f"unix:{path}") as server:
        eventually(path.exists, 30, lambda: server.log)
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert connection.recv(100).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("addresses", "environment", "each"),
    [
        ([("127.0.0.1", 80), ("::1", 80)], {}, True),
        ([("127.0.0.1", 80), "/run/web.sock"], {}, False),
        ([3], {}, False),
        ([("127.0.0.1", 80)], {"LISTEN_FDS": "1"}, False),
    ],
)
def test_only_what_is_bound_here_by_host_and_port_can_have_a_socket_for_each_process(
    addresses: list[object], environment: dict[str, str], each: bool
) -> None:
    assert is_tcp(addresses, environment) is each


def test_the_settings_serve_another_application_as_well_with_bodies_of_any_size(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    with Server(tmp_path, environment, workers=1, application="tests.abuse.plain_wsgi:app") as server:
        body = b"x" * 3_000_000

        answer = server.send("POST", "/", body)
        assert answer.body == b"3000000"
        assert int(answer.headers["x-frozen"]) > 0, "the garbage collector goes through all that was loaded"
        chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert server.raw(head + 3 * chunk + b"0\r\n\r\n").body == str(3 * 0x100000).encode()


def test_a_client_that_waits_to_be_told_to_go_on_is_told_so(tmp_path: Path, environment: Mapping[str, str]) -> None:
    with (
        Server(tmp_path, environment, workers=1, application="tests.abuse.plain_wsgi:app") as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection,
    ):
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 100"
        connection.sendall(b"hello")

        eventually(lambda: b"200 OK" in connection.recv(65_536), describe="the answer")
