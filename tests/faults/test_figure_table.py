"""The table of figures: what a run writes, and what it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from tests.faults.figure_table import FigureTable, Row, figures_of


def row(test: str, figures: str) -> Row:
    return Row(test=test, story="A broker dies.", figures=figures, run="2024-05-01, seed 7")


def rows(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.startswith("| F")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "docs" / "fault-figures.md"


def phase(outcome: Literal["passed", "failed", "skipped"]) -> pytest.TestReport:
    return pytest.TestReport("a test", ("file", 1, "test"), {}, outcome, None, "call")


def test_a_row_says_which_test_did_what_and_counted_what(path: Path) -> None:
    FigureTable(path, "Full size, seed 7.").put(row("F07 no job is lost", "lost=0"))

    text = path.read_text()
    assert "Full size, seed 7." in text
    assert "| F07 no job is lost | A broker dies. | lost=0 | 2024-05-01, seed 7 |" in text.splitlines()


def test_a_test_that_runs_again_replaces_its_own_row_and_no_other(path: Path) -> None:
    for test in ("F07 no job is lost", "F07 no job is lost on redis", "F12 each job runs once"):
        FigureTable(path, "The first run.").put(row(test, "lost=0"))

    FigureTable(path, "The second run.").put(row("F07 no job is lost", "lost=1"))

    assert rows(path) == [
        "| F07 no job is lost | A broker dies. | lost=1 | 2024-05-01, seed 7 |",
        "| F07 no job is lost on redis | A broker dies. | lost=0 | 2024-05-01, seed 7 |",
        "| F12 each job runs once | A broker dies. | lost=0 | 2024-05-01, seed 7 |",
    ]
    assert "The second run." in path.read_text()
    assert "The first run." not in path.read_text()


def test_rows_stand_in_the_order_of_their_names_whatever_ran_first(path: Path) -> None:
    table = FigureTable(path, "")
    for test in ("F12 b", "F07 a", "F26 c"):
        table.put(row(test, "lost=0"))

    assert [line[2:5] for line in rows(path)] == ["F07", "F12", "F26"]


def test_what_would_break_the_table_is_written_so_that_it_does_not(path: Path) -> None:
    table = FigureTable(path, "")
    table.put(row("F09 a|b", "ways=reset|silent\nlost=0"))
    table.put(row("F09 a|b", "ways=reset|silent\nlost=1"))

    assert rows(path) == [r"| F09 a\|b | A broker dies. | ways=reset\|silent lost=1 | 2024-05-01, seed 7 |"]


def test_a_row_takes_its_words_from_the_test(path: Path) -> None:
    row = Row.of("test_f07_broker_wiped.py", "test_no_job_is_lost[redis]", "F07: the broker dies.\n\nAnd more.", "now")

    assert row is not None
    assert row.line == "| F07 no job is lost[redis] | The broker dies. | FAILED | now |\n"


def test_a_test_that_is_not_of_a_fault_has_no_row() -> None:
    assert Row.of("test_figure_table.py", "test_a_row", "The table.", "now") is None


@pytest.mark.parametrize(
    ("outcomes", "figures", "said"),
    [
        (["passed", "passed", "passed"], ["broker=a lost=0", "broker=b lost=0"], "broker=a lost=0; broker=b lost=0"),
        (["passed", "passed", "passed"], [], "passed"),
        (["passed", "failed", "passed"], ["lost=1"], "FAILED lost=1"),
        (["passed", "passed", "failed"], ["lost=0"], "FAILED lost=0"),
        (["failed", "passed"], [], "FAILED "),
        (["skipped", "passed"], [], "not run"),
        ([], ["lost=0"], "FAILED lost=0"),
    ],
)
def test_a_test_counts_only_when_all_of_it_passed(
    outcomes: list[Literal["passed", "failed", "skipped"]], figures: list[str], said: str
) -> None:
    assert figures_of([phase(outcome) for outcome in outcomes], figures) == said
