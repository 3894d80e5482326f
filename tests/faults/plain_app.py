"""The control: a plain Celery application, with all that Celery's documentation recommends against losses."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import Celery

from tests.faults.ledger import note
from tests.faults.plain_settings import SETTINGS

_DIRECTORY = Path(os.environ["FAULT_DIRECTORY"]) / "control"

app = Celery("plain", broker=os.environ["FAULT_BROKER"])
app.conf.update(SETTINGS)


@app.task(name="plain.work", bind=True)
def work(self: Any, seconds: float = 0) -> None:
    """Take some time."""
    note(_DIRECTORY, "start", self.request.id, 1)
    time.sleep(seconds)
    note(_DIRECTORY, "end", self.request.id, 1)


@app.task(name="plain.poison", bind=True)
def poison(self: Any) -> None:
    """End its own process."""
    note(_DIRECTORY, "start", self.request.id, 1)
    os.kill(os.getpid(), signal.SIGKILL)
