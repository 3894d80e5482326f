"""A handler may keep a client that belongs to one event loop, since all jobs of a process meet the same loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.integration.worker_process import a_journey

JOBS = 100
PROCESSES = 2


@dataclass
class Source:
    """An HTTP server that counts who connects to it."""

    url: str
    connections: list[object]


@pytest.fixture
def source() -> Iterator[Source]:
    connections: list[object] = []

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # so that a client may keep its connection

        def setup(self) -> None:
            super().setup()
            connections.append(self.client_address)

        def do_GET(self) -> None:
            body = self.path.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Source(f"http://127.0.0.1:{server.server_address[1]}", connections)
        server.shutdown()


def test_a_handler_keeps_one_http_session_for_all_jobs_of_its_process(
    amqp_url: str, tmp_path: Path, source: Source
) -> None:
    with a_journey(amqp_url, tmp_path) as journey, journey.worker("prefork", concurrency=PROCESSES):
        jobs = {
            number: journey.create("journey.fetch", {"url": f"{source.url}/{number}"}, max_retries=0)
            for number in range(JOBS)
        }
        results = {number: journey.completed(job_id).result_data for number, job_id in jobs.items()}

        assert results == {number: {"text": f"/{number}"} for number in range(JOBS)}
        processes = {line.detail for line in journey.ledger(kind="start")}
        sessions = [line.detail for line in journey.ledger(kind="session")]
        assert len(processes) == PROCESSES
        assert sorted(sessions) == sorted(processes)
        assert len(source.connections) == PROCESSES
