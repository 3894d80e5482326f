"""What the job queues can do is shown as it is declared."""

from __future__ import annotations

from pathlib import Path

from tests.contracts.queue_features import table

PAGE = Path(__file__).parents[2] / "docs" / "job-queues.md"


def test_the_documentation_shows_what_is_declared() -> None:
    assert table() in PAGE.read_text()
