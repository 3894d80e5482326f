"""gunicorn by the settings that we ship, and a client that may send anything."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import sys
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.integration.worker_process import Program
from tests.services import free_port

SECONDS = 20.0

Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """What came back; status 0 where the connection was closed without an answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The JSON in it."""
        return json.loads(self.body)


class Server(Program):
    """gunicorn, by the settings that we ship."""

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        *,
        workers: int = 2,
        port: int | None = None,
        application: str | None = None,
        also_at: str | None = None,
    ) -> None:
        self.port = port or free_port()
        self._workers = workers
        command = [sys.executable, "-m", "gunicorn", "-c", "python:webhook_app.gunicorn_conf"]
        command += ["--workers", str(workers), "--bind", f"127.0.0.1:{self.port}"]
        command += [] if also_at is None else ["--bind", also_at]
        command += [] if application is None else [application]
        super().__init__(f"web-{uuid4().hex}", command, directory=directory, environment=environment)

    def is_ready(self) -> bool:
        """Whether it answers, and all of its processes hear what they are told."""
        try:
            return self.send("GET", "/health/live").status == http.HTTPStatus.OK and self.has_all_processes()
        except OSError:
            return False

    def has_all_processes(self) -> bool:
        """Whether there are as many processes as there should be, all of which can be told to stop.

        One that is just being made misses it, and is killed when the time for a graceful stop is over.
        """
        children = self.children
        return len(children) == self._workers and all(map(_hears_signals, children))

    @property
    def children(self) -> list[str]:
        """The ids of its processes."""
        return Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()

    def send(self, method: str, path: str, body: bytes = b"", headers: Headers = ()) -> Answer:
        """Send a request with exactly these headers, and the body's length."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)) as connection:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value.encode("latin-1"))
            if not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in headers):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders()
            connection.send(body)
            return _answer(connection.getresponse())

    def raw(self, content: bytes) -> Answer:
        """Send bytes as they are, and read what comes back until the end."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS) as connection:
            try:
                connection.sendall(content)
                return read_answer(connection)
            except (ConnectionError, http.client.HTTPException):
                return Answer(0, {}, b"")


def read_answer(connection: socket.socket) -> Answer:
    """Read the answer to what was sent over a connection."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return _answer(response)


def _hears_signals(pid: str) -> bool:
    """Whether a process of gunicorn's has its own signal handlers: of SIGABRT last, for which its parent has none."""
    found = re.search(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> (signal.SIGABRT - 1) & 1)


def _answer(response: http.client.HTTPResponse) -> Answer:
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
