"""``python -m portico_celery demo`` as a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
SECONDS = 60


class DemoProcess:
    """A running demo, and all that it has printed so far."""

    def __init__(self, directory: Path, *arguments: str, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "portico_celery", "demo", *arguments],
            cwd=ROOT,
            env={**os.environ, "PORT": "", "PORTICO_DEMO_DIR": str(directory), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            self._lines.extend(output)  # line by line, as they come

    @property
    def printed(self) -> str:
        return "".join(self._lines)

    def wait_for(self, pattern: str) -> str:
        """Return what the pattern's first group found in the output."""
        found = eventually(
            lambda: re.search(pattern, self.printed, re.MULTILINE), SECONDS, lambda: f"{pattern}\n{self.printed}"
        )
        assert found is not None
        return str(found[1]) if found.re.groups else ""

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def exit_code(self, within: float = SECONDS) -> int:
        code = self._process.wait(within)
        self._reader.join(within)
        return code

    def post(self, job_type: str, scheduled_at: str | None = None, **payload: Any) -> str:
        """Create a job over HTTP, and return its id."""
        request: dict[str, Any] = {"job_type": job_type, "payload": payload}
        if scheduled_at is not None:
            request["scheduled_at"] = scheduled_at
        connection = HTTPConnection("127.0.0.1", int(self.wait_for(r"http://127\.0\.0\.1:(\d+)/webhooks")))
        connection.request("POST", "/webhooks/jobs", json.dumps(request), {"Content-Type": "application/json"})
        document = json.loads(connection.getresponse().read())
        connection.close()
        return str(document["job_id"])

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()


@contextmanager
def demo(directory: Path, *arguments: str, **environment: str) -> Iterator[DemoProcess]:
    """Start it; it is killed at the end where it still runs."""
    process = DemoProcess(directory, *arguments, **environment)
    try:
        yield process
    finally:
        process.kill()
