"""The table of what the fault tests counted, in Markdown: a row for each test, kept until that test runs again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

_FILE = re.compile(r"test_f(\d\d)_\w+\.py")
_FAILED = "FAILED"
_INTRODUCTION = """\
# What the fault tests counted

Written by `make faults`; each row by the last run of its test. The last run of all: {run}.

"""
_HEAD = "| Test | What happens | Figures | Run |\n| --- | --- | --- | --- |\n"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one test does and counted. ``test`` is its name, by which the row is found again."""

    test: str
    story: str
    run: str
    figures: str = _FAILED

    @classmethod
    def of(cls, file_name: str, test_name: str, docstring: str, run: str) -> Self | None:
        """Return the row of a test that has not yet passed; None for a test that is not one of a fault."""
        file = _FILE.fullmatch(file_name)
        if file is None:
            return None
        test = f"F{file[1]} {test_name.removeprefix('test_').replace('_', ' ')}"
        story = docstring.partition("\n\n")[0].removeprefix(f"F{file[1]}: ")
        return cls(test=test, story=story[:1].upper() + story[1:], run=run)

    @property
    def line(self) -> str:
        """The row in Markdown."""
        return f"| {' | '.join(_in_a_cell(text) for text in (self.test, self.story, self.figures, self.run))} |\n"


def _in_a_cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def figures_of(reports: Sequence[pytest.TestReport], figures: Sequence[str]) -> str:
    """Return what the table says of a test whose phases ended so, and which counted that."""
    counted = "; ".join(figures)
    if not reports or any(report.failed for report in reports):
        return f"{_FAILED} {counted}"
    if any(report.skipped for report in reports):
        return "not run"
    return counted or "passed"


class FigureTable:
    """A file with the table. Each row that is put replaces that of the same test, and leaves the others."""

    def __init__(self, path: Path, run: str) -> None:
        self._path = path
        self._run = run

    def put(self, row: Row) -> None:
        """Write the file anew, so that it is whole and true whenever the run is broken off."""
        lines = {**self._lines(), _in_a_cell(row.test): row.line}
        text = _INTRODUCTION.format(run=self._run) + _HEAD + "".join(lines[test] for test in sorted(lines))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_name(f"{self._path.name}.new")
        new.write_text(text)
        new.replace(self._path)

    def _lines(self) -> Mapping[str, str]:
        if not self._path.exists():
            return {}
        rows = self._path.read_text().partition(_HEAD)[2].splitlines(keepends=True)
        return {row.removeprefix("| ").partition(" | ")[0]: row for row in rows}
