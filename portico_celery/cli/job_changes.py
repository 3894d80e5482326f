"""The commands that change jobs: those that are named, or all that meet some conditions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID

import click

from portico_celery.cli.output import as_line, print_json
from portico_celery.cli.parameters import as_json, job_conditions
from portico_celery.kits.job import SyncJobService
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_reader import MAX_PAGE_SIZE, JobFilter

Change = Callable[[JobFilter, int | None, float | None], int]

_FAILED = (JobStatus.FAILED, JobStatus.DEAD_LETTER)

pass_service = click.make_pass_decorator(SyncJobService)
some_ids = click.argument("job_ids", nargs=-1, type=click.UUID)
every_one = click.option("--all", "everything", is_flag=True, help="Every dead letter, without any condition.")
at_most = click.option("--limit", type=click.IntRange(min=1), help="At most so many, the newest first.")
a_second = click.option("--per-second", type=click.FloatRange(min=0, min_open=True), help="At most so many a second.")
unasked = click.option("-y", "--yes", is_flag=True, help="Don't ask.")


@click.command()
@click.argument("job_ids", nargs=-1, required=True, type=click.UUID)
@click.option(
    "--running", is_flag=True, help="Also those that run: their handlers are told within a third of the lease."
)
@as_json
@pass_service
def cancel(service: SyncJobService, job_ids: tuple[UUID, ...], *, running: bool, json: bool) -> None:
    """Cancel the jobs JOB_IDS, which have not started or wait for a retry. Ends with 1 where one could not be."""
    refused = "is not there, or has ended" if running else "is not there, runs, or has ended"
    cancelled: dict[str, bool] = {}
    try:
        for job_id in map(str, dict.fromkeys(job_ids)):
            cancelled[job_id] = service.cancel_job(job_id, running=running)
            if not json:
                click.echo(f"{job_id} {'is cancelled' if cancelled[job_id] else refused}")
    finally:
        # Also where one of them ends it early.
        if json:
            print_json([{"job_id": job_id, "cancelled": done} for job_id, done in cancelled.items()])
    _end(all_done=all(cancelled.values()))


@click.command()
@some_ids
@job_conditions(_FAILED, default="dead letters, or any of the JOB_IDS")
@every_one
@at_most
@a_second
@unasked
@as_json
@pass_service
def requeue(service: SyncJobService, /, **arguments: Any) -> None:
    """Start failed jobs and dead letters afresh: JOB_IDS, or all dead letters that meet the conditions."""
    _change("requeue", "requeued", service.requeue_jobs, **arguments)


@click.command()
@some_ids
@job_conditions((JobStatus.COMPLETED, *_FAILED), default="dead letters, or any of the JOB_IDS")
@every_one
@at_most
@a_second
@unasked
@as_json
@pass_service
def discard(service: SyncJobService, /, **arguments: Any) -> None:
    """Delete jobs that have ended: JOB_IDS, or all dead letters that meet the conditions."""
    _change("discard", "discarded", service.discard_jobs, **arguments)


def _change(
    verb: str,
    past: str,
    change: Change,
    *,
    job_ids: tuple[UUID, ...],
    everything: bool,
    limit: int | None,
    per_second: float | None,
    yes: bool,
    json: bool,
    **conditions: Any,
) -> None:
    narrowed = bool(job_ids) or any(value is not None for value in conditions.values())
    if not (narrowed or everything):
        raise click.UsageError(f"say which jobs: their ids, conditions, or --all to {verb} every dead letter")
    if narrowed and everything:
        raise click.UsageError("--all is for every dead letter: leave it out where you say which")
    wanted = JobFilter(job_ids=job_ids or None, **conditions)
    if not (job_ids or yes):
        _confirm(verb, wanted, limit)
    number = change(wanted, limit, per_second)
    rest = min(len(wanted.job_ids or ()), limit or MAX_PAGE_SIZE) - number
    if json:
        print_json({past: number})
    else:
        click.echo(f"{past}: {number}" + (f"; not there, or not as they have to be: {rest}" if rest > 0 else ""))
    _end(all_done=rest <= 0)


def _confirm(verb: str, wanted: JobFilter, limit: int | None) -> None:
    words = {
        "of queue": wanted.queue_name,
        "of type": wanted.job_type,
        "with error": wanted.error_contains,
        "ended since": wanted.ended_since,
        "ended before": wanted.ended_until,
        "at most": limit,
    }
    bounds = "".join(f", {word} {value}" for word, value in words.items() if value is not None)
    status = (wanted.status or JobStatus.DEAD_LETTER).value
    try:
        agreed = click.confirm(as_line(f"{verb.capitalize()} {status} jobs{bounds}?"), err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise click.UsageError("nobody is there to be asked: say --yes") from None
    if not agreed:
        raise click.Abort


def _end(*, all_done: bool) -> None:
    """End with 1 where something was not done, so that a script hears of it."""
    if not all_done:
        click.get_current_context().exit(1)
