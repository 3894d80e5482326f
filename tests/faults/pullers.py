"""Processes of ``puller`` to start and to kill, among the workers of a test."""

from __future__ import annotations

import os
import sys

from tests.faults.system import System
from tests.faults.workers import Worker
from tests.integration.worker_process import ROOT

# Written out here: the module itself is made for another process's environment.
_READY = "callers wait"


class Puller(Worker):
    """``python -m tests.faults.puller``."""

    def is_ready(self) -> bool:
        """Whether its callers wait."""
        return _READY in self.log


def start_puller(system: System, callers: int, *, ready: bool = True) -> Puller:
    """Start a process with so many callers of ``dequeue``, and return when they wait, or at once."""
    workers = system.workers
    command = [sys.executable, "-m", "tests.faults.puller", str(callers)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **workers.environment}
    puller = Puller(f"puller-{len(workers.started)}", command, directory=workers.directory, environment=environment)
    workers.started.append(puller)
    if ready:
        puller.wait_until_ready()
    return puller
