"""A web server that lets its clients wait until the test says how it answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CSV = (
    b"order_id,ordered_at,customer,email,product,quantity,unit_price,currency,note\n"
    b"SO-1,2024-03-01T09:19:41Z,Ana,ana@example.org,Lamp,1,64.90,EUR,\n"
)


@dataclass
class SlowServer:
    url: str = ""
    status: int = 200
    may_answer: threading.Event = field(default_factory=threading.Event)

    def answer(self, status: int) -> None:
        self.status = status
        self.may_answer.set()


@contextmanager
def slow_server() -> Iterator[SlowServer]:
    slow = SlowServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            slow.may_answer.wait()
            try:
                self.send_response(slow.status)
                self.end_headers()
                self.wfile.write(CSV)
            except ConnectionError:
                pass  # the client was killed meanwhile

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        slow.url = f"http://127.0.0.1:{server.server_port}/orders.csv"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield slow
        finally:
            slow.may_answer.set()
            server.shutdown()
            thread.join()
