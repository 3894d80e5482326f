"""gunicorn's thread worker as we ship it: how long a thread stays with a connection."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from flask import Flask
from gunicorn.config import Config  # type: ignore[import-untyped]

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
    """A worker with one client. Each time it is through with the connection, ``served`` says whether that goes on."""

    worker: BoundedWorker
    connection: BoundedConnection
    client: socket.socket
    served: list[bool] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def serve(self) -> None:
        """Have a thread take the connection up, as gunicorn does where there is something to be read."""
        self.connection.data_ready = True
        thread = threading.Thread(target=lambda: self.served.append(self.worker.handle(self.connection)))
        self._threads.append(thread)
        thread.start()

    def ask(self, times: int = 1) -> None:
        """Send a request, or several at once, and read the answers."""
        self.client.sendall(times * REQUEST)
        got = b""
        while got.count(ANSWERED) < times:
            more = self.client.recv(65_536)
            assert more, f"the connection was closed after {got!r}"
            got += more

    def hang_up(self) -> None:
        """End the client's side."""
        self.client.close()

    def wait(self) -> None:
        """Wait until the worker is through with the connection."""
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "the worker still holds the connection"


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
        log = logging.getLogger("tests.bounded_worker")
        worker: Any = BoundedWorker(1, os.getppid(), [], None, PATIENCE, config, _Log(log))
        stack.callback(worker.tmp.close)
        worker.wsgi, worker.nr_conns = plain_wsgi.app, 1
        connection = BoundedConnection(config, accepted, address, listener.getsockname())
        one = OneConnection(worker=worker, connection=connection, client=client)
        stack.callback(one.wait)
        stack.callback(one.hang_up)
        yield one


class _Log(logging.LoggerAdapter[logging.Logger]):
    """What the worker tells, without gunicorn's own loggers, which would stay as they were set up."""

    access_log_enabled = False

    def access(self, *_args: Any) -> None:
        """Log no request."""


def test_a_thread_serves_what_follows_on_its_connection_until_the_client_is_done(one: OneConnection) -> None:
    one.serve()

    for _ in range(3):
        one.ask()
    assert one.served == []

    one.hang_up()
    one.wait()
    assert one.served == [False]


def test_requests_that_were_sent_at_once_are_all_answered_by_the_thread(one: OneConnection) -> None:
    one.serve()

    one.ask(times=3)

    one.hang_up()
    one.wait()
    assert one.served == [False]


def test_a_thread_comes_back_from_a_connection_on_which_nothing_follows(
    one: OneConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_worker, "_LINGER_MILLISECONDS", 1)
    one.serve()

    one.ask()
    one.wait()

    assert one.served == [True]


@pytest.mark.parametrize(
    "change", [{"nr_conns": 3}, {"alive": False}, {"ppid": -1}], ids=["other connections", "told to stop", "orphaned"]
)
def test_a_thread_does_not_wait_where_others_may_need_it_or_the_worker_ends(
    one: OneConnection, change: dict[str, Any]
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        for name, value in change.items():
            setattr(one.worker, name, value)
        return plain_wsgi.app(environ, start_response)

    one.worker.wsgi = app
    one.serve()

    one.ask()
    one.wait()

    assert one.served == [True]


def test_a_worker_may_be_told_to_stop_before_it_has_loaded_its_application(one: OneConnection) -> None:
    del one.worker.wsgi
    one.worker.method_queue.init()

    one.worker.handle_exit(15, None)
    one.worker.method_queue.close()

    assert not one.worker.alive


class ToStop:
    """A trigger that is told."""

    waits = True

    def end_waits(self) -> None:
        self.waits = False


def test_a_worker_that_is_told_to_stop_lets_nobody_wait(one: OneConnection) -> None:
    trigger = ToStop()
    app = Flask(__name__)
    app.extensions["portico_webhook"] = trigger
    one.worker.wsgi = app
    one.worker.method_queue.init()

    one.worker.handle_exit(15, None)
    one.worker.method_queue.close()

    assert [one.worker.alive, trigger.waits] == [False, False]
