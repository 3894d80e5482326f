"""Celery's Redis result backend, in a process that is killed at the very point that a test names.

``result_backend = "tests.integration.dying_backend:DyingBackend+redis://..."``. A file beside the ledger says which
task's process dies where, once.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from celery.backends.redis import RedisBackend

#: Where a process may die: the end is in the row, and Celery has stored no result, or has told no chord of it.
BEFORE_THE_RESULT = "before-the-result"
BEFORE_THE_CHORD = "before-the-chord"


def death_warrant(ledger: str | Path, task_id: str, point: str) -> Path:
    """Return the file by which a process is killed."""
    return Path(f"{ledger}.{point}.{task_id}")


def _die_if_told(task_id: str, point: str) -> None:
    warrant = death_warrant(os.environ["JOURNEY_LEDGER"], task_id, point)
    if warrant.exists():
        warrant.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


class DyingBackend(RedisBackend):
    """Stores results as ever, where the process lives."""

    def mark_as_done(self, task_id: str, *args: Any, **kwargs: Any) -> None:
        _die_if_told(task_id, BEFORE_THE_RESULT)
        super().mark_as_done(task_id, *args, **kwargs)

    def mark_as_failure(self, task_id: str, *args: Any, **kwargs: Any) -> None:
        _die_if_told(task_id, BEFORE_THE_RESULT)
        super().mark_as_failure(task_id, *args, **kwargs)

    def on_chord_part_return(self, request: Any, *args: Any, **kwargs: Any) -> None:
        _die_if_told(request.id, BEFORE_THE_CHORD)
        super().on_chord_part_return(request, *args, **kwargs)
