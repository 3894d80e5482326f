"""Celery applications that a test writes down itself, and the workers that run them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from tests.integration.worker_process import START_SECONDS, STOP_SECONDS, Beat, Worker
from tests.waiting import eventually

_ROOT = Path(__file__).resolve().parents[2]
_NOT_INHERITED = ("CELERY_", "PORTICO_")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    returncode: int
    output: str


@contextmanager
def ready(workers: Iterable[Worker]) -> Iterator[None]:
    """Wait until workers that have been started together are ready, and stop them in the end."""
    with ExitStack() as stack:
        started = list(workers)
        for worker in started:
            stack.callback(worker.kill)
        for worker in started:
            worker.wait_until_ready()
        yield
        for worker in started:
            os.kill(worker.pid, signal.SIGTERM)
        eventually(lambda: not any(worker.running for worker in started), STOP_SECONDS, "workers that have ended")


class SmallApp:
    """A module with a Celery application called ``app``, in a directory of its own."""

    def __init__(self, directory: Path, source: str) -> None:
        self.directory = directory
        self.module = f"app_{uuid4().hex}"
        (directory / f"{self.module}.py").write_text(source)

    def worker(self, *options: str) -> Worker:
        """Start a worker; as a context manager it is ready."""
        name = f"worker-{uuid4().hex[:8]}"
        return Worker(name, self._command(name, options), directory=self.directory, environment=self._environment)

    def beat(self, *options: str) -> Beat:
        """Start a beat, with a state file of its own; as a context manager it ticks."""
        name = f"beat-{uuid4().hex[:8]}"
        command = [sys.executable, "-m", "celery", "-A", self.module, "beat", "-l", "INFO", "-s", f"{name}-state"]
        return Beat(name, [*command, *options], directory=self.directory, environment=self._environment)

    def worker_that_ends(self, *options: str) -> Ended:
        """Run a worker that ends by itself."""
        return self._ended(self._command(f"worker-{uuid4().hex[:8]}", options))

    def celery(self, *arguments: str) -> Ended:
        """Run a command of Celery's that ends by itself."""
        return self._ended([sys.executable, "-m", "celery", "-A", self.module, *arguments])

    def _ended(self, command: Sequence[str]) -> Ended:
        done = subprocess.run(
            command,
            cwd=self.directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        return Ended(done.returncode, done.stdout)

    def _command(self, name: str, options: Sequence[str]) -> list[str]:
        command = [sys.executable, "-m", "celery", "-A", self.module, "worker", "-n", f"{name}@localhost", "-l", "INFO"]
        return [*command, "--without-mingle", "--without-gossip", *options]

    @property
    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
        paths = os.pathsep.join([str(self.directory), str(_ROOT)])
        return inherited | {"PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}
