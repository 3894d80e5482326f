"""What commands are given, and where they work."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

as_json = click.option("--json", "json", is_flag=True, help="Print JSON, for other programs.")


class Moment(click.ParamType[datetime]):
    """An ISO date or time; without a zone, UTC."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it."""
        if isinstance(value, datetime):
            return value
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no date or time such as 2026-11-01T09:00+01:00", param, ctx)


def require_shared_store(portico: Any, *, instead: str) -> None:
    """Raise ClickException where no command could see what other processes store."""
    if portico.keeps_jobs_in_memory:
        raise click.ClickException(
            "a job store in memory is one process's own, and no command sees what another process keeps there: use "
            f"another store, or {instead} in that process"
        )
