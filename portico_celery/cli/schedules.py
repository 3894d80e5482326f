"""``celery -A shop portico schedules``: look at schedules, and change what they do while beats run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from portico_celery.cli.output import as_text, print_json, print_table
from portico_celery.cli.parameters import Moment, as_json, require_shared_store
from portico_celery.scheduling.schedule_service import ScheduleView
from portico_celery.scheduling.sync_schedule_service import SyncScheduleService

a_name = click.argument("name")

_NONE = "There are no schedules"
# Commands that only read the schedules themselves.
_WITHOUT_STORE = frozenset({"next", "lint"})

pass_service = click.make_pass_decorator(SyncScheduleService)


@click.group()
@click.pass_context
def schedules(ctx: click.Context) -> None:
    """List schedules, pause and resume them, run one now, make up for missed fire times."""
    portico = ctx.obj.portico
    if ctx.invoked_subcommand not in _WITHOUT_STORE:
        require_shared_store(portico, instead="portico.schedules")
    # Read anew by each command, so that a fault in the file is told by every one of them.
    ctx.obj = SyncScheduleService(portico.schedules)


@schedules.command("list")
@as_json
@pass_service
def list_schedules(service: SyncScheduleService, *, json: bool) -> None:
    """List all schedules with their last fire, last job and next fire, in UTC."""
    views = service.list_schedules()
    if json:
        print_json([_document(view) for view in views])
        return
    if not views:
        click.echo(_NONE)
        return
    heads = ("NAME", "CRON", "ZONE", "JOB TYPE", "STATE", "LAST FIRE", "LAST JOB", "NEXT FIRE", "MADE", "MISSED")
    print_table(heads, [_row(view) for view in views])


@schedules.command("next")
@a_name
@click.option("-n", "--count", default=5, show_default=True, help="How many fire times.")
@as_json
@pass_service
def next_fires(service: SyncScheduleService, name: str, count: int, *, json: bool) -> None:
    """Show the next fire times of NAME, in the schedule's zone and in UTC."""
    zone = service.zone(name)
    fires = [
        {"local": as_text(fire.astimezone(zone)), "utc": as_text(fire)} for fire in service.next_fires(name, count)
    ]
    if json:
        print_json(fires)
        return
    if not fires:
        click.echo(f"{name} fires no more: its end_at has passed")
        return
    print_table((str(zone), "UTC"), [(fire["local"], fire["utc"]) for fire in fires])


@schedules.command()
@a_name
@as_json
@pass_service
def pause(service: SyncScheduleService, name: str, *, json: bool) -> None:
    """Let the fire times of NAME make no jobs from now on, whichever beat runs."""
    _tell_change(name, json=json, changed=service.pause(name), paused=True)


@schedules.command()
@a_name
@as_json
@pass_service
def resume(service: SyncScheduleService, name: str, *, json: bool) -> None:
    """Let the fire times of NAME make jobs again, from now on."""
    _tell_change(name, json=json, changed=service.resume(name), paused=False)


def _tell_change(name: str, *, json: bool, changed: bool, paused: bool) -> None:
    if json:
        print_json({"name": name, "paused": paused, "changed": changed})
        return
    if paused:
        click.echo(f"{name} is paused" if changed else f"{name} is paused, as it was")
    else:
        click.echo(f"{name} is no longer paused" if changed else f"{name} was not paused")


@schedules.command()
@a_name
@as_json
@pass_service
def forget(service: SyncScheduleService, name: str, *, json: bool) -> None:
    """Forget what is remembered of NAME: one that was removed, or is to begin anew."""
    forgotten = service.forget(name)
    if json:
        print_json({"name": name, "forgotten": forgotten})
        return
    click.echo(f"{name} is forgotten" if forgotten else f"{name}: nothing was remembered")


@schedules.command()
@a_name
@as_json
@pass_service
def restart(service: SyncScheduleService, name: str, *, json: bool) -> None:
    """Let NAME's fire times count from now on: one that was settled far ahead makes jobs again, and one that catches
    up gives up the rest.
    """
    view = service.restart(name)
    document = _document(view)
    if json:
        print_json(document)
        return
    click.echo(
        f"{name} counts from {as_text(view.state.settled_until)} on; next fire: {document['next_fire'] or 'none'}"
    )


@schedules.command()
@a_name
@as_json
@pass_service
def run(service: SyncScheduleService, name: str, *, json: bool) -> None:
    """Create a job of NAME now, beside those of its fire times."""
    job = service.run(name)
    if json:
        print_json({"name": name, "job_id": str(job.id), "status": job.status.value})
        return
    click.echo(f"{name}: job {job.id} is {job.status.value}")


@schedules.command()
@a_name
@click.option("--from", "start", type=Moment(), required=True, help="The first moment, that one included.")
@click.option("--to", "end", type=Moment(), required=True, help="The last moment, that one included; at most now.")
@as_json
@pass_service
def backfill(service: SyncScheduleService, name: str, start: datetime, end: datetime, *, json: bool) -> None:
    """Create the job of each past fire time of NAME in a range that has none."""
    done = service.backfill(name, start, end)
    if json:
        print_json(
            [{"scheduled_for": as_text(one.fire), "job_id": str(one.job.id), "created": one.created} for one in done]
        )
        return
    made = sum(one.created for one in done)
    click.echo(f"{name}: {len(done)} fire times, {made} jobs created, {len(done) - made} there already")


@schedules.command()
@as_json
@pass_service
def lint(service: SyncScheduleService, *, json: bool) -> None:
    """Check all schedules, without the store: end with 1 where one can't be, and warn of what may surprise."""
    # A schedule that can't be has raised by now, with its file and line.
    found = service.lint()
    if json:
        print_json([{"name": finding.name, "warning": finding.warning} for finding in found])
        return
    if not service.names():
        click.echo(_NONE)
        return
    for finding in found:
        click.echo(f"{finding.name}: {finding.warning}")
    click.echo(f"All schedules can be run; {len(found)} warnings")


def _row(view: ScheduleView) -> tuple[str, ...]:
    document = _document(view)
    names = (
        "name",
        "cron",
        "timezone",
        "job_type",
        "state",
        "last_fire",
        "last_job_id",
        "next_fire",
        "created",
        "missed",
    )
    return tuple("-" if document[name] is None else str(document[name]) for name in names)


def _document(view: ScheduleView) -> dict[str, Any]:
    config, state = view.config, view.state
    return {
        "name": config.name,
        "cron": config.cron,
        "timezone": config.timezone,
        "job_type": config.job_type,
        "queue_name": config.queue_name,
        "state": "disabled" if not config.enabled else "paused" if state.paused else "active",
        "misfire": config.misfire,
        "overlap": config.overlap,
        "last_fire": None if state.last_fire is None else as_text(state.last_fire),
        "last_job_id": None if state.last_job_id is None else str(state.last_job_id),
        "next_fire": None if view.next_fire is None else as_text(view.next_fire),
        "created": state.created,
        "missed": state.missed,
        "skipped": state.skipped,
    }
