"""The ledgers: files to which lines are appended whole, whoever else does so too, and which outlive any process."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

ACCEPTED = "accepted.log"
HANDLED = "handled.log"


@dataclass(frozen=True)
class Line:
    """What a handler noted: start, end, stopped (it was cancelled) or failure (its on_failure was called)."""

    kind: str
    job_id: str
    attempt: int
    pid: int
    at: float


def append(path: Path, lines: Iterable[str]) -> None:
    """Append lines in one write."""
    text = "".join(f"{line}\n" for line in lines)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def note(directory: Path, kind: str, job_id: object, attempt: int) -> None:
    """Note what a handler does, from within it."""
    append(directory / HANDLED, [f"{kind}|{job_id}|{attempt}|{os.getpid()}|{time.time():.6f}"])


def accept(directory: Path, job_ids: Iterable[UUID]) -> None:
    """Note ids that the client was told are accepted."""
    append(directory / ACCEPTED, map(str, job_ids))


class Ledger:
    """The ledgers in a directory, read afresh at each look."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def accepted(self) -> list[str]:
        """The ids that were accepted."""
        return self._lines(ACCEPTED)

    def lines(self, kind: str) -> list[Line]:
        """Return what handlers noted of one kind, oldest first."""
        parts = (line.split("|") for line in self._lines(HANDLED))
        return [
            Line(what, job, int(attempt), int(pid), float(at)) for what, job, attempt, pid, at in parts if what == kind
        ]

    @property
    def starts(self) -> list[Line]:
        """Every start of a handler."""
        return self.lines("start")

    @property
    def ends(self) -> list[Line]:
        """Every end that a handler came to."""
        return self.lines("end")

    @property
    def stops(self) -> list[Line]:
        """Every run that was stopped before its end."""
        return self.lines("stopped")

    def start_counts(self) -> Counter[str]:
        """Count the starts of each job."""
        return Counter(line.job_id for line in self.starts)

    def _lines(self, name: str) -> list[str]:
        path = self._directory / name
        # The last piece is empty, or a line that is being written.
        return path.read_text().split("\n")[:-1] if path.exists() else []


def percentile(values: Iterable[float], part: float) -> float:
    """Return the value that a part of all values does not exceed; 0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0
