"""What commands are given, and where they work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar

import click

from portico_celery.ports.job import JobStatus

C = TypeVar("C", bound=Callable[..., Any])

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


def job_conditions(statuses: Iterable[JobStatus], *, default: str) -> Callable[[C], C]:
    """Give a command the options that say which jobs are meant, by the names of a JobFilter."""
    of_status = f"Those in this state; without it, {default}."
    options = (
        click.option("--status", type=click.Choice([status.value for status in statuses]), help=of_status),
        click.option("-Q", "-q", "--queue", "queue_name", help="Those of this queue."),
        click.option("-t", "--type", "job_type", help="Those of this job type."),
        click.option("--error", "error_contains", metavar="TEXT", help="Those whose error has this text in it."),
        click.option("--since", "ended_since", type=Moment(), help="Those that ended at this moment, or later."),
        click.option("--until", "ended_until", type=Moment(), help="Those that ended before this moment."),
    )

    def decorate(command: C) -> C:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def require_shared_store(portico: Any, *, instead: str) -> None:
    """Raise ClickException where no command could see what other processes store."""
    if portico.keeps_jobs_in_memory:
        raise click.ClickException(
            "a job store in memory is one process's own, and no command sees what another process keeps there: use "
            f"another store, or {instead} in that process"
        )
