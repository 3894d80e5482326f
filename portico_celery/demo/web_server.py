"""The demo's web server, and the troubled file on it that the import job wants."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from uuid import UUID

from flask import Flask, Response
from werkzeug.serving import make_server

from portico_celery.exceptions import ConfigurationError

LOCALHOST = "127.0.0.1"
_FAILURES = 2
_MAX_PORT = 65_535


def listen(port: str) -> socket.socket:
    """Take the port of this machine that ``port`` names, or a free one where it is empty. Raises ConfigurationError."""
    if port and not (port.isascii() and port.isdigit() and int(port) <= _MAX_PORT):
        raise ConfigurationError(f"PORT must be a number from 0 to {_MAX_PORT}, not {port!r}")
    listener = socket.socket()
    # So that a port that was ours a moment ago can be had again.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOCALHOST, int(port or 0)))
        listener.listen()
    except OSError as error:
        listener.close()
        reason = "is taken by another program" if error.errno == errno.EADDRINUSE else f"can't be had ({error})"
        raise ConfigurationError(
            f"port {port} {reason}: name another one by PORT, or leave PORT out and a free one is chosen"
        ) from error
    return listener


@contextmanager
def serving_web(application: Flask, listener: socket.socket) -> Iterator[None]:
    """Serve the application, each request in a thread of its own."""
    host, port = listener.getsockname()
    server = make_server(host, port, application, threaded=True, fd=listener.fileno())
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="demo-web-server", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


def orders_path(token: UUID) -> str:
    """Return where the file of orders is; each token stands for a server that is in trouble anew."""
    return f"/demo/orders/{token}.csv"


def add_orders_file(application: Flask, directory: Path) -> None:
    """Serve the example's orders: for each token, 503 twice and then the file. ``directory`` keeps the count."""
    content = (files("examples") / "data" / "orders.csv").read_bytes()
    directory.mkdir(exist_ok=True)

    def orders_file(token: UUID) -> Response:
        # On disk, so that a demo that was killed does not fail again as often.
        with (directory / str(token)).open("ab") as requests:
            requests.write(b".")
            if requests.tell() <= _FAILURES:
                return Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        return Response(content, content_type="text/csv; charset=utf-8")

    application.add_url_rule("/demo/orders/<uuid:token>.csv", view_func=orders_file)
