"""What a job's error says."""

from __future__ import annotations

from portico_celery.lifecycle.outcome import Lost, Released
from portico_celery.ports.job import Job

CANCELLED_MESSAGE = "Job cancelled"
#: How the error of a job begins that waits for a worker which has its handler.
NO_HANDLER = "NoHandler"
MAX_MESSAGE_CHARS = 2_000
MAX_TRACEBACK_CHARS = 8_000
_WORKER_LOST = "WorkerLost: "


def describe(error: BaseException) -> str:
    """Return ``Type: message``, cut to a bounded length."""
    try:
        text = str(error)
    except Exception as fault:  # noqa: BLE001 (an error's text is made by code of its own)
        text = f"its message can't be shown, {type(fault).__name__}"
    name = type(error).__name__
    return (f"{name}: {text}" if text else name)[:MAX_MESSAGE_CHARS]


def cut_message(text: str) -> str:
    """Return an error message as it can be stored."""
    return _storable(text)[:MAX_MESSAGE_CHARS]


def cut_traceback(text: str) -> str:
    """Return the end of a traceback, as it can be stored."""
    return _storable(text)[-MAX_TRACEBACK_CHARS:]


def _storable(text: str) -> str:
    # Lone surrogates (from file names) have no UTF-8, and PostgreSQL's text takes no NUL.
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", r"\x00")


def lost_message(job: Job, lost: Lost) -> str:
    """Return the error of a job whose worker was lost."""
    how = "was lost" if lost.time_limit is None else f"was killed at Celery's time limit of {lost.time_limit:g} s"
    message = f"{_WORKER_LOST}{lost.worker} {how} during attempt {lost.attempt}; its outcome is unknown"
    return message if job.max_retries else f"{message}, and max_retries=0 forbids a second start"


def lost_part(lost_error: str) -> str:
    """Return what an attempt's error tells of a lost worker, also where workers without a handler have added to it."""
    return lost_error.rpartition(_WORKER_LOST)[2]


def released_message(released: Released) -> str:
    """Return the error of a job that was given back."""
    return f"Released: {released.worker} gave it back in attempt {released.attempt}"


def no_handler_message(job_type: str, worker: str) -> str:
    """Return the error of a job that waits for another worker."""
    return f"{NO_HANDLER}: {worker} has no handler for {job_type!r}; the job waits for one that has"


def unknown_type_message(job_type: str, patience: float) -> str:
    """Return the error of a job that has waited for too long."""
    return (
        f"UnknownJobType: no worker that met the job in {patience:.0f} s has a handler for "
        f"{job_type!r}: start one that has, and requeue the job"
    )
