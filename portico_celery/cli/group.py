"""The command group, and what its commands share: the application's PorticoCelery, and how faults are told."""

from __future__ import annotations

from typing import Any

import click

from portico_celery.cli.jobs import jobs
from portico_celery.cli.schedules import schedules
from portico_celery.exceptions import PorticoError


class PorticoGroup(click.Group):
    """Tells this package's errors in one line, without a traceback, and ends with 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except PorticoError as error:
            # A driver's own words may have several lines. The notes say how far a change of many jobs came.
            told = "; ".join([str(error), *_notes(error)])
            raise click.ClickException(" ".join(told.split())) from error
        except KeyboardInterrupt as interrupted:
            for note in _notes(interrupted):
                click.echo(note, err=True)
            raise


def _notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


@click.group(cls=PorticoGroup)
@click.pass_context
def portico(ctx: click.Context) -> None:
    """Work on an application's jobs and schedules."""
    app = ctx.obj.app
    app.loader.import_default_modules()
    app.finalize()
    found = getattr(app, "portico", None)
    if found is None:
        raise click.ClickException(
            f"the application {app.main or app!r} has no PorticoCelery(app): name yours by celery -A"
        )
    ctx.obj.portico = found
    # Knocks under way are confirmed, and connections released, before the command ends.
    ctx.call_on_close(found.close)


portico.add_command(jobs)
portico.add_command(schedules)
