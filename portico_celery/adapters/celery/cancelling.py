"""Cancelling a job, and having a worker say so to whoever waits for it in Celery: a result, a canvas, Flower."""

from __future__ import annotations

from uuid import UUID

from portico_celery.adapters.celery.process_io import ProcessIO
from portico_celery.exceptions import StoreError
from portico_celery.ports.job_store import JobStore, Knock
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)


def cancel(io: ProcessIO, store: JobStore, job_id: UUID, *, running: bool) -> bool:
    """Cancel a job, from the I/O thread, as the store does.

    Where this takes effect a worker is told, by a message of its own: a job that is scheduled, or waits for a retry,
    has none under way, and the process that runs a job may be stuck, or dead.
    """
    if not store.cancel(job_id, running=running):
        return False
    _announce(io, store, job_id)
    return True


def _announce(io: ProcessIO, store: JobStore, job_id: UUID) -> None:
    try:
        record = store.get(job_id)
    except StoreError as error:
        hint = "the job is cancelled; a canvas that it has a part in, or its result, may not hear of it"
        logger.warning("cancelled_job_not_announced", job_id=str(job_id), error=str(error), hint=hint)
        return
    if record is not None:
        io.knock(Knock(job=record.job, envelope=record.envelope))
