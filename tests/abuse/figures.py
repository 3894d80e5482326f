"""The figures of the abuse programme: of a test, and of all tests together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

#: By this name a test's report carries them, also from another process.
PROPERTY = "abuse"

Record = Callable[[str, object], None]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What has come of cases."""

    rows: tuple[int, ...]
    cases: int
    server_errors: int
    wrong: int
    created: int
    published: int

    def __str__(self) -> str:
        groups = f"row {self.rows[0]}" if len(self.rows) == 1 else f"{len(self.rows)} groups"
        return (
            f"abuse: {groups}, {self.cases} cases, 5xx={self.server_errors}, wrong_status={self.wrong}, "
            f"rows_created_by_rejected={self.created}, messages_published_by_rejected={self.published}"
        )

    def tell(self, record: Record) -> None:
        """Print them, and put them into the test's report."""
        print(self)  # noqa: T201  # the figures
        record(PROPERTY, asdict(self))


def total(reports: Iterable[object]) -> Figures | None:
    """Add up what the reports of tests carry; None where none does."""
    # Set-up and teardown report what the test itself has, too.
    told = [
        value
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in getattr(report, "user_properties", ())
        if name == PROPERTY
    ]
    return _sum(told) if told else None


def _sum(told: list[Mapping[str, Any]]) -> Figures:
    numbers = ("cases", "server_errors", "wrong", "created", "published")
    return Figures(
        rows=tuple(sorted({row for one in told for row in one["rows"]})),
        **{name: sum(one[name] for one in told) for name in numbers},
    )
