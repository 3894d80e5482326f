"""gunicorn's thread worker as we ship it: how long a thread stays with a connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from tests.abuse import plain_wsgi
from webhook_app import bounded_worker
from webhook_app.bounded_worker import BoundedConnection, BoundedWorker

ANSWERED = b"\r\n\r\n5"
REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
PATIENCE = 30.0
# Longer than any test takes.
LINGER_MILLISECONDS = 60_000


@dataclass(kw_only=True)
class OneConnection:
    """A worker with one client. ``served`` are the connections that it has come back from, and whether they go on."""

    worker: BoundedWorker
    connection: BoundedConnection
    client: socket.socket
    served: list[bool] = field(default_factory=list)

    def serve(self) -> threading.Thread:
        """Have a thread take the connection up, as gunicorn does where there is something to be read."""
        thread = threading.Thread(target=lambda: self.served.append(self.worker.handle(self.connection)))
        thread.start()
        return thread

    def ask(self, times: int = 1) -> None:
        """Send a request, or several at once, and read the answers."""
        self.client.sendall(times * REQUEST)
        got = b""
        while got.count(ANSWERED) < times:
            more = self.client.recv(65_536)
            assert more, f"the connection was closed after {got!r}"
            got += more


@pytest.fixture
def one(monkeypatch: pytest.MonkeyPatch) -> Iterator[OneConnection]:
    monkeypatch.setattr(bounded_worker, "_LINGER_MILLISECONDS", LINGER_MILLISECONDS)
    config = Config()
    config.set("threads", 2)
    config.set("worker_class", "webhook_app.bounded_worker.BoundedWorker")
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = stack.enter_context(socket.create_connection(listener.getsockname(), timeout=PATIENCE))
        accepted, address = listener.accept()
        stack.callback(accepted.close)
        worker: Any = BoundedWorker(1, 0, [], None, PATIENCE, config, Logger(config))
        stack.callback(worker.tmp.close)
        worker.wsgi, worker.nr_conns = plain_wsgi.app, 1
        connection = BoundedConnection(config, accepted, address, listener.getsockname())
        yield OneConnection(worker=worker, connection=connection, client=client)


def test_a_thread_serves_what_follows_on_its_connection_until_the_client_is_done(one: OneConnection) -> None:
    thread = one.serve()

    for _ in range(3):
        one.ask()
    assert one.served == []

    one.client.shutdown(socket.SHUT_WR)
    thread.join(PATIENCE)
    assert one.served == [False]


def test_requests_that_were_sent_at_once_are_all_answered_by_the_thread(one: OneConnection) -> None:
    thread = one.serve()

    one.ask(times=3)

    one.client.shutdown(socket.SHUT_WR)
    thread.join(PATIENCE)
    assert one.served == [False]


def test_a_thread_comes_back_from_a_connection_on_which_nothing_follows(
    one: OneConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_worker, "_LINGER_MILLISECONDS", 1)
    thread = one.serve()

    one.ask()
    thread.join(PATIENCE)

    assert one.served == [True]


@pytest.mark.parametrize("why", ["more connections than threads", "told to stop"])
def test_a_thread_does_not_wait_where_others_may_need_it(one: OneConnection, why: str) -> None:
    if why == "told to stop":
        one.worker.alive = False
    else:
        one.worker.nr_conns = 3
    thread = one.serve()

    one.ask()
    thread.join(PATIENCE)

    # What stops tells the client that it does.
    assert one.served == [why != "told to stop"]
