"""What an earlier run left open, whether it was stopped or killed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from portico_celery.compose import PorticoCelery
from portico_celery.lifecycle import TERMINAL
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import JobFilter

logger = logging.getLogger(__name__)

_MOST_SHOWN = 20
# A job that is scheduled for later than this is not waited for.
_SOON = timedelta(seconds=10)


def find_open_jobs(portico: PorticoCelery) -> list[Job]:
    """Say which jobs are open, and return those that should end soon."""
    found = sorted({job.id: job for job in _open_jobs(portico)}.values(), key=_created)
    if found:
        logger.info(
            "\nAn earlier run left %d %s open. Going on with:", len(found), "job" if len(found) == 1 else "jobs"
        )
    for job in found[:_MOST_SHOWN]:
        logger.info("  %s  %-17s  %s%s", job.id, job.job_type, job.status.value, "" if _is_soon(job) else ", for later")
    if len(found) > _MOST_SHOWN:
        logger.info("  and %d more", len(found) - _MOST_SHOWN)
    return [job for job in found if _is_soon(job)]


def _open_jobs(portico: PorticoCelery) -> Iterator[Job]:
    for status in JobStatus:
        cursor = None
        while status not in TERMINAL:
            page = portico.sync.list_jobs(JobFilter(status=status, cursor=cursor, limit=1_000))
            yield from page.jobs
            cursor = page.next_cursor
            if cursor is None:
                break


def _created(job: Job) -> datetime:
    return job.created_at or datetime.min.replace(tzinfo=UTC)


def _is_soon(job: Job) -> bool:
    if job.status is not JobStatus.SCHEDULED or job.scheduled_at is None:
        return True
    return job.scheduled_at <= datetime.now(UTC) + _SOON
