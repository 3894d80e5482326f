"""``celery -A shop portico jobs``: find jobs, count them, and change them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import click

from portico_celery.cli.job_changes import cancel, discard, requeue
from portico_celery.cli.job_text import attempt_rows, job_document, job_lines, job_row, job_summary
from portico_celery.cli.output import print_json, print_table
from portico_celery.cli.parameters import as_json, job_conditions, require_shared_store
from portico_celery.kits.job import SyncJobService
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_reader import DEFAULT_PAGE_SIZE, JobFilter

pass_service = click.make_pass_decorator(SyncJobService)


@click.group()
@click.pass_context
def jobs(ctx: click.Context) -> None:
    """List and show jobs, count them, and cancel, requeue or discard them."""
    portico = ctx.obj.portico
    require_shared_store(portico, instead="portico.sync")
    ctx.obj = portico.sync


for command in (cancel, requeue, discard):
    jobs.add_command(command)


@jobs.command("list")
@job_conditions(JobStatus, default="in any")
@click.option("--limit", default=DEFAULT_PAGE_SIZE, show_default=True, help="At most so many.")
@click.option("--cursor", help="Where to go on, as the page before has told; with the same conditions.")
@as_json
@pass_service
def list_jobs(service: SyncJobService, /, *, json: bool, **conditions: Any) -> None:
    """List jobs, the newest first."""
    page = service.list_jobs(JobFilter(**conditions))
    if json:
        print_json({"jobs": [job_summary(job) for job in page.jobs], "next_cursor": page.next_cursor})
        return
    if not page.jobs:
        click.echo("There are no such jobs")
        return
    heads = ("ID", "JOB TYPE", "QUEUE", "STATUS", "RETRIES", "CREATED", "ENDED", "ERROR")
    print_table(heads, [job_row(job) for job in page.jobs])
    if page.next_cursor is not None:
        click.echo(f"There are more: --cursor {page.next_cursor}")


@jobs.command()
@click.argument("job_id", type=click.UUID)
@click.option("--payload", is_flag=True, help="With payload and metadata, whatever stands in them.")
@as_json
@pass_service
def show(service: SyncJobService, job_id: UUID, *, payload: bool, json: bool) -> None:
    """Show the job JOB_ID with its result, its attempts and the traceback of the last."""
    record = service.get_record(job_id)
    if record is None:
        raise click.ClickException(f"there is no job {job_id}")
    if json:
        print_json(job_document(record, payload=payload))
        return
    for line in job_lines(record, payload=payload):
        click.echo(line)
    if record.attempts:
        print_table(("ATTEMPT", "WORKER", "STARTED", "ENDED", "ERROR"), attempt_rows(record))


@jobs.command()
@click.argument("queue_names", nargs=-1, required=True)
@as_json
@pass_service
def stats(service: SyncJobService, queue_names: tuple[str, ...], *, json: bool) -> None:
    """Count the jobs of each of QUEUE_NAMES by state. Those for later, and those to be retried, are pending."""
    counts = [vars(service.get_queue_stats(name)) for name in queue_names]
    if json:
        print_json(counts)
        return
    heads = ("QUEUE", "PENDING", "RUNNING", "COMPLETED", "FAILED", "DEAD LETTER")
    print_table(heads, [[str(value) for value in count.values()] for count in counts])
