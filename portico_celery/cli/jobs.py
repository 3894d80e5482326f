"""``celery -A shop portico jobs``: find jobs, and cancel, requeue or discard them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

import click

from portico_celery.cli.job_text import attempt_rows, job_document, job_lines, job_row, record_document
from portico_celery.cli.output import as_line, print_json, print_table
from portico_celery.cli.parameters import Moment, as_json, require_shared_store
from portico_celery.kits.job import SyncJobService
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_reader import DEFAULT_PAGE_SIZE, JobFilter

C = TypeVar("C", bound=Callable[..., Any])

Change = Callable[[JobFilter, int | None, float | None], int]

some_ids = click.argument("job_ids", nargs=-1)
pass_service = click.make_pass_decorator(SyncJobService)

_CONDITIONS = (
    click.option("--status", type=click.Choice([status.value for status in JobStatus]), help="Those in this state."),
    click.option("-q", "--queue", "queue_name", help="Those of this queue."),
    click.option("-t", "--type", "job_type", help="Those of this job type."),
    click.option("--error", "error_contains", metavar="TEXT", help="Those whose error has this text in it."),
    click.option("--since", "ended_since", type=Moment(), help="Those that ended at this moment, or later."),
    click.option("--until", "ended_until", type=Moment(), help="Those that ended before this moment."),
)
_BOUNDS = (
    some_ids,
    *_CONDITIONS,
    click.option("--all", "everything", is_flag=True, help="Every dead letter, without any condition."),
    click.option("--limit", type=int, help="At most so many."),
    click.option("--per-second", type=float, help="At most so many a second."),
    click.option("-y", "--yes", is_flag=True, help="Don't ask."),
)


def _with(*parameters: Callable[[C], C]) -> Callable[[C], C]:
    def decorate(command: C) -> C:
        for parameter in reversed(parameters):
            command = parameter(command)
        return command

    return decorate


@click.group()
@click.pass_context
def jobs(ctx: click.Context) -> None:
    """List and show jobs, count them, and cancel, requeue or discard them."""
    portico = ctx.obj.portico
    require_shared_store(portico, instead="portico.sync")
    ctx.obj = portico.sync


@jobs.command("list")
@_with(*_CONDITIONS)
@click.option("--limit", default=DEFAULT_PAGE_SIZE, show_default=True, help="At most so many.")
@click.option("--cursor", help="Where to go on, as the page before has told.")
@as_json
@pass_service
def list_jobs(service: SyncJobService, /, *, json: bool, **conditions: Any) -> None:
    """List jobs, the newest first."""
    page = service.list_jobs(JobFilter(**conditions))
    if json:
        print_json({"jobs": [job_document(job) for job in page.jobs], "next_cursor": page.next_cursor})
        return
    if not page.jobs:
        click.echo("There are no such jobs")
        return
    heads = ("ID", "JOB TYPE", "QUEUE", "STATUS", "RETRIES", "CREATED", "ENDED", "ERROR")
    print_table(heads, [job_row(job) for job in page.jobs])
    if page.next_cursor is not None:
        click.echo(f"There are more: --cursor {page.next_cursor}")


@jobs.command()
@click.argument("job_id")
@click.option("--payload", is_flag=True, help="With payload and metadata, whatever stands in them.")
@as_json
@pass_service
def show(service: SyncJobService, job_id: str, *, payload: bool, json: bool) -> None:
    """Show the job JOB_ID with its result and its attempts."""
    record = service.get_record(job_id)
    if record is None:
        raise click.ClickException(f"there is no job {job_id}")
    if json:
        print_json(record_document(record, payload=payload))
        return
    for line in job_lines(record, payload=payload):
        click.echo(line)
    if record.attempts:
        print_table(("ATTEMPT", "WORKER", "STARTED", "ENDED", "ERROR"), attempt_rows(record))
        for line in (record.attempts[-1].traceback or "").splitlines():
            click.echo(as_line(line))


@jobs.command()
@click.argument("queue_names", nargs=-1, required=True)
@as_json
@pass_service
def stats(service: SyncJobService, queue_names: tuple[str, ...], *, json: bool) -> None:
    """Count the jobs of each of QUEUE_NAMES by state."""
    counts = [asdict(service.get_queue_stats(name)) for name in queue_names]
    if json:
        print_json(counts)
        return
    heads = [name.removesuffix("_count").replace("_", " ").upper() for name in counts[0]]
    print_table(heads, [[str(value) for value in count.values()] for count in counts])


@jobs.command()
@click.argument("job_ids", nargs=-1, required=True)
@click.option("--running", is_flag=True, help="Also those that run: their handlers are stopped.")
@as_json
@pass_service
def cancel(service: SyncJobService, job_ids: tuple[str, ...], *, running: bool, json: bool) -> None:
    """Cancel the jobs JOB_IDS, which have not started or wait for a retry. Ends with 1 where one could not be."""
    cancelled = {job_id: service.cancel_job(job_id, running=running) for job_id in job_ids}
    if json:
        print_json([{"job_id": job_id, "cancelled": done} for job_id, done in cancelled.items()])
    else:
        otherwise = "is not there, or has ended" if running else "is not there, runs, or has ended"
        for job_id, done in cancelled.items():
            click.echo(f"{job_id} is cancelled" if done else f"{job_id} {otherwise}")
    _end(all_done=all(cancelled.values()))


@jobs.command()
@_with(*_BOUNDS)
@as_json
@pass_service
def requeue(service: SyncJobService, /, **arguments: Any) -> None:
    """Start jobs afresh: JOB_IDS, or all dead letters that meet the conditions (with --status, failed jobs)."""
    _change("requeue", "requeued", service.requeue_jobs, **arguments)


@jobs.command()
@_with(*_BOUNDS)
@as_json
@pass_service
def discard(service: SyncJobService, /, **arguments: Any) -> None:
    """Delete jobs that have ended: JOB_IDS, or all dead letters that meet the conditions (with --status, others)."""
    _change("discard", "discarded", service.discard_jobs, **arguments)


def _change(
    verb: str,
    past: str,
    change: Change,
    *,
    job_ids: tuple[str, ...],
    everything: bool,
    limit: int | None,
    per_second: float | None,
    yes: bool,
    json: bool,
    **conditions: Any,
) -> None:
    told = {name: value for name, value in conditions.items() if value is not None}
    if not (job_ids or told or everything):
        raise click.UsageError(f"say which jobs: their ids, conditions, or --all to {verb} every dead letter")
    # Nobody names a few jobs by mistake.
    if not (job_ids or yes):
        bounds = ", ".join(f"{name} {value}" for name, value in told.items()) or "of all queues and types"
        click.confirm(f"{verb.capitalize()} {told.pop('status', 'dead_letter')} jobs: {bounds}?", abort=True, err=True)
    wanted = JobFilter(job_ids=job_ids or None, **conditions)  # type: ignore[arg-type]  # it reads ids
    number = change(wanted, limit, per_second)
    rest = 0 if limit is not None else len(wanted.job_ids or ()) - number
    if json:
        print_json({past: number})
    else:
        others = f"; {rest} are not there, or in no state for that" if rest > 0 else ""
        click.echo(f"{number} jobs {past}{others}")
    _end(all_done=rest <= 0)


def _end(*, all_done: bool) -> None:
    # So that a script hears of it.
    if not all_done:
        click.get_current_context().exit(1)
