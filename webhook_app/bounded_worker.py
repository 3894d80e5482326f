"""gunicorn's thread worker, with limits for how long a request may take to arrive, and an answer to be taken.

A thread that waits for a client serves nobody else meanwhile. One that sends a byte now and then, or
does not read, holds it for that long, and no longer.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
import time
from contextlib import suppress
from types import FrameType
from typing import Any

from flask import Flask
from gunicorn.http.errors import NoMoreData  # type: ignore[import-untyped]
from gunicorn.http.unreader import SocketUnreader  # type: ignore[import-untyped]
from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped]

#: A request has to be here within so many seconds, head and body.
ARRIVAL_SECONDS = 9.0
# For so long a client may take nothing of its answer, of which the system takes so much meanwhile: else it would go on
# taking more. As the kernel has it: seconds and microseconds; bytes.
_SEND_TIMEOUT = struct.pack("ll", 5, 0)
_SEND_BUFFER = 262_144
# A thread waits for so long for the next request of its connection.
_LINGER_MILLISECONDS = 5


class BoundedUnreader(SocketUnreader):  # type: ignore[misc]  # gunicorn has no types
    """Reads what a client sends, until its time is over."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._deadline = 0.0
        self._has_head = False
        self._has_looked = False

    def expect_request(self) -> None:
        """The time for the next request begins."""
        self._deadline = time.monotonic() + ARRIVAL_SECONDS
        self._has_head = False
        self._has_looked = isinstance(self.sock, ssl.SSLSocket)  # which takes no flags

    def note_head(self) -> None:
        """What comes now is the body, whose reader is told of a delay."""
        self._has_head = True

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Return what has come. Raises TimeoutError, or NoMoreData where there is nobody to answer it yet."""
        if not self._has_looked:
            # Nearly always a request is here in whole when a thread gets to it, and then its time need not be told.
            self._has_looked = True
            with suppress(BlockingIOError):
                return bytes(self.sock.recv(self.mxchunk, socket.MSG_DONTWAIT))
        # Late as it is, what is here is taken; a timeout of 0 would be none.
        self.sock.settimeout(max(self._deadline - time.monotonic(), 0.001))
        try:
            return bytes(super().chunk(size_hint))
        except TimeoutError:
            if self._has_head:
                raise
            raise NoMoreData from None


class BoundedConnection(TConn):  # type: ignore[misc]
    """A client's connection. It may be closed twice."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._is_closed = False

    def init(self) -> None:
        """Make ready for a request; called by a thread before each."""
        super().init()
        if self.is_http2:
            return
        if not isinstance(self.parser.unreader, BoundedUnreader):
            unreader = BoundedUnreader(self.sock)
            unreader.unread(self.parser.unreader.take_buffered())
            self.parser.unreader = unreader
        self.parser.unreader.expect_request()

    def close(self, graceful: bool = False) -> None:
        """Close it; gracefully, as soon as the client has read the answer, or after two seconds."""
        if not self._is_closed:
            self._is_closed = True
            super().close(graceful)


class BoundedWorker(ThreadWorker):  # type: ignore[misc]
    """Serves connections whose requests have a limit of time."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop. Who waits for a job to end does not hold it up."""
        # The application may not have been loaded yet, and may be any other.
        app = getattr(self, "wsgi", None)
        if isinstance(app, Flask) and "portico_webhook" in app.extensions:
            app.extensions["portico_webhook"].end_waits()
        super().handle_exit(sig, frame)

    def accept(self, listener: socket.socket) -> None:
        """Take a new connection."""
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self.nr_conns += 1
        self.enqueue_req(BoundedConnection(self.cfg, client, address, listener.getsockname()))

    def handle(self, conn: TConn) -> Any:
        """Serve a request, in a thread, and those that follow on its heels."""
        goes_on = super().handle(conn)
        while goes_on is True and self._has_next(conn):
            goes_on = super().handle(conn)
        if not goes_on:
            # Here, since it may take its time, and gunicorn would do it where it waits for all the others.
            conn.close(graceful=True)
        return goes_on

    def _has_next(self, conn: TConn) -> bool:
        # Who sends one request after the other need not go by way of the thread that waits for all; as long as there
        # is a thread for every connection.
        if not self.alive or self.ppid != os.getppid() or self.nr_conns > self.cfg.threads:
            return False
        if conn.parser.unreader.buf.getvalue() or (isinstance(conn.sock, ssl.SSLSocket) and conn.sock.pending()):
            return True  # it was read ahead
        poll = select.poll()
        poll.register(conn.sock, select.POLLIN)
        return bool(poll.poll(_LINGER_MILLISECONDS))
