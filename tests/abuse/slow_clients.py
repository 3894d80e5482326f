"""Clients that hold connections and send a byte now and then, for ever anew."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.abuse.case import JOBS

_POST = f"POST {JOBS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
#: How each begins, and the byte that it sends again and again: none of them ever sends a whole request.
KINDS = {
    "nothing": (b"", b""),
    "head": (_POST + b"X-Slow: ", b"a"),
    "body": (_POST + b"Content-Length: 60000\r\n\r\n{", b" "),
    "chunks": (_POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    "expecting": (_POST + b"Content-Length: 60000\r\nExpect: 100-continue\r\n\r\n", b" "),
    "kept alive": (b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\nG", b"E"),
    "pipelined": (b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n" + _POST + b"X-Slow: ", b"a"),
    "after its end": (b"GET / HTTP/9\r\n\r\n", b"a"),
}
_PAUSE = 0.5


class SlowClients:
    """``count`` connections, of all kinds. One that is cut off is opened anew.

    ``endings`` are how long those lived that were cut off, in seconds.
    """

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._count = count
        self._stop = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._born: dict[socket.socket, float] = {}
        self._kinds: dict[socket.socket, str] = {}
        self.endings: list[float] = []

    @property
    def held(self) -> int:
        """How many connections are open."""
        return len(self._born)

    def run(self) -> None:
        """Drip until told to stop."""
        kinds = list(KINDS)
        try:
            while not self._stop.is_set():
                while len(self._born) < self._count:
                    self._open(kinds[(len(self.endings) + len(self._born)) % len(kinds)])
                until = time.monotonic() + _PAUSE
                while (left := until - time.monotonic()) > 0 and not self._stop.is_set():
                    self._read(left)
                for connection in list(self._born):
                    self._drip(connection)
        finally:
            for connection in self._born:
                connection.close()
            self._selector.close()

    def stop(self) -> None:
        """End it."""
        self._stop.set()

    def _open(self, kind: str) -> None:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=20)
        begin, _ = KINDS[kind]
        connection.sendall(begin)
        connection.setblocking(False)
        self._born[connection], self._kinds[connection] = time.monotonic(), kind
        self._selector.register(connection, selectors.EVENT_READ, kind)

    def _read(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            try:
                over = not connection.recv(65_536)
            except OSError:
                over = True
            # Whoever means ill does not close what the server has half closed.
            if over and key.data == "after its end":
                self._selector.unregister(connection)
            elif over:
                self._close(connection)

    def _drip(self, connection: socket.socket) -> None:
        try:
            connection.send(KINDS[self._kinds[connection]][1])
        except OSError:
            self._close(connection)

    def _close(self, connection: socket.socket) -> None:
        with suppress(KeyError):
            self._selector.unregister(connection)
        del self._kinds[connection]
        self.endings.append(time.monotonic() - self._born.pop(connection))
        connection.close()


@contextmanager
def slow_clients(port: int, count: int) -> Iterator[SlowClients]:
    """Let them begin, and end them."""
    clients = SlowClients(port, count)
    thread = threading.Thread(target=clients.run)
    thread.start()
    try:
        yield clients
    finally:
        clients.stop()
        thread.join()
