"""Worker processes to kill, to stop where they stand and to start again: each in a process group of its own."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.worker_process import ROOT, Program

OUR_APP = "tests.faults.fault_app"
PLAIN_APP = "tests.faults.plain_app"
_NOT_INHERITED = ("CELERY_", "FAULT_", "PORTICO_")


class Worker(Program):
    """``celery worker``."""

    def is_ready(self) -> bool:
        """Whether it consumes."""
        return f"{self.name}@localhost ready." in self.log

    @property
    def children(self) -> list[int]:
        """The processes of its pool."""
        try:
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        except FileNotFoundError:
            return []

    def freeze(self) -> None:
        """Stop every process of the group where it stands."""
        os.killpg(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen group go on."""
        os.killpg(self.pid, signal.SIGCONT)


@dataclass(frozen=True)
class Kill:
    """Who was killed, and when."""

    pids: frozenset[int]
    at: float


@dataclass(kw_only=True)
class Workers:
    """All workers of a test."""

    directory: Path
    environment: Mapping[str, str]
    queue_name: str
    kills: list[Kill] = field(default_factory=list)
    started: list[Worker] = field(default_factory=list)

    def start(
        self,
        pool: str = "prefork",
        concurrency: int = 2,
        *,
        app: str = OUR_APP,
        queues: str | None = None,
        ready: bool = True,
    ) -> Worker:
        """Start a worker, and return when it is ready, or at once."""
        name = f"{'plain' if app == PLAIN_APP else 'worker'}-{len(self.started)}"
        command = [sys.executable, "-m", "celery", "-A", app, "worker", "-P", pool, "-c", str(concurrency)]
        command += ["-Q", queues or self.queue_name, "-n", f"{name}@localhost", "-l", "INFO"]
        command += ["--without-mingle", "--without-gossip"]
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(_NOT_INHERITED)}
        environment = {**inherited, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **self.environment}
        worker = Worker(name, command, directory=self.directory, environment=environment)
        self.started.append(worker)
        if ready:
            worker.wait_until_ready()
        return worker

    def kill(self, worker: Worker) -> None:
        """Kill a worker with all its processes."""
        self.kills.append(Kill(frozenset((worker.pid, *worker.children)), time.time()))
        worker.kill()

    def kill_child(self, pid: int) -> None:
        """Kill one process of a pool."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.kills.append(Kill(frozenset((pid,)), time.time()))

    def end(self) -> None:
        """Kill all that still run."""
        for worker in self.started:
            if worker.running:
                worker.kill()

    def shown(self) -> str:
        """Tell what the workers said last."""
        return "\n".join(worker.log_tail for worker in self.started[-3:])
