"""A process that creates jobs until it is killed.

    python -m tests.faults.creating_process SEED THREADS

What it is told it writes into the ledgers of creating_clients.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from celery import Celery

from portico_celery import PorticoCelery
from tests.faults.creating_clients import Clients
from tests.faults.system import System
from tests.integration.worker_process import ROOT, Program


def main(seed: str, threads: str) -> None:
    """Create jobs."""
    app = Celery("creator", broker=os.environ["FAULT_BROKER"])
    app.conf.update(json.loads(os.environ["FAULT_SETTINGS"]))
    portico = PorticoCelery(app, store=os.environ["FAULT_STORE"])
    portico.declare("fault.work", queue=os.environ["FAULT_QUEUE"])
    chance = random.Random(seed)  # noqa: S311  # a test that can be repeated
    Clients(portico, Path(os.environ["FAULT_DIRECTORY"]), chance, threads=int(threads)).start()
    threading.Event().wait()


class CreatingProcess(Program):
    """Such a process; ``under`` is a command that it is started by."""

    def __init__(self, system: System, seed: int, *, threads: int = 4, under: Sequence[str] = ()) -> None:
        command = [*under, sys.executable, "-m", "tests.faults.creating_process", str(seed), str(threads)]
        environment = {**os.environ, **system.workers.environment, "PYTHONPATH": str(ROOT)}
        super().__init__(f"creator-{seed}", command, directory=system.directory, environment=environment)

    def is_ready(self) -> bool:
        """It is, as soon as it runs."""
        return True

    def stop(self) -> None:
        """There is nothing that it would do in good order."""
        self.kill()


if __name__ == "__main__":
    main(*sys.argv[1:])
