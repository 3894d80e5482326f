"""The end of a job that had ended before its message came: what Celery has still to hear of it.

A process may be killed between the end in the row and Celery's result, and then the broker delivers the message again.
A job may be cancelled while it has no message, and then one is sent to say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from celery.app.task import get_actual_ignore_result  # type: ignore[attr-defined]  # not in the type stubs
from celery.backends.base import DisabledBackend
from celery.exceptions import Ignore, TaskRevokedError
from celery.states import FAILURE, REVOKED, SUCCESS

from portico_celery.adapters.celery.knock import announces_end
from portico_celery.exceptions import JobFailed
from portico_celery.lifecycle import CANCELLED_MESSAGE, TERMINAL
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_reader import JobRecord
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

E = TypeVar("E", bound=Exception)


@dataclass(frozen=True, kw_only=True)
class JobEnd:
    """How a job ended, in Celery's words: a state, and the result or the error."""

    state: str
    result: Any

    def answer(self) -> Any:
        """Return the result, or raise the error, as a run of the job would have."""
        if self.state == SUCCESS:
            return self.result
        raise self.result


class JobHasEnded(Ignore):
    """There is nothing to run: the job has ended before."""

    def __init__(self, end: JobEnd) -> None:
        super().__init__(end.state)
        self.end = end


class JobWasCancelled(Ignore):
    """There is nothing to run, since the job was cancelled: its request tells so to whoever watches."""


def end_of(record: JobRecord | None) -> JobEnd | None:
    """Return the end of a job as its row has it; None where it has not ended, or there is none."""
    if record is None or record.job.status not in TERMINAL:
        return None
    job = record.job
    if job.status is JobStatus.COMPLETED:
        return JobEnd(state=SUCCESS, result=dict(record.result_data or {}))
    if job.status is JobStatus.FAILED and job.error_message == CANCELLED_MESSAGE:
        return JobEnd(state=REVOKED, result=TaskRevokedError("cancelled"))
    error = JobFailed(job.error_message or f"job {job.id} failed")
    return JobEnd(state=FAILURE, result=noted(job.id, error) if job.status is JobStatus.DEAD_LETTER else error)


def noted(job_id: UUID, error: E) -> E:
    """Note on the error of a dead letter that it is one: Flower and the log show notes under the traceback."""
    error.add_note(f"dead letter: job {job_id} will not be run again unless it is requeued")
    return error


def tell(task: Any, end: JobEnd) -> Any:
    """Answer the message of a job that has ended, from within its task, where Celery has not heard of that end.

    Whoever ended the job tells of it; another message is only an answer where that process may have been killed, which
    the broker's ``redelivered`` says, or where it announces a cancelling. Raises Ignore where there is nothing to tell,
    JobWasCancelled where Celery is to hear that.
    """
    request = task.request
    redelivered = bool((request.delivery_info or {}).get("redelivered"))
    stored = _stored_result(task)
    heard = stored is not None and stored.get("status") == end.state
    if end.state == REVOKED:
        # Where results are ignored nobody knows who has heard: then the announcement alone counts, which is sent once.
        if heard or (stored is None and not redelivered and not announces_end(request.headers or {})):
            raise Ignore
        # As a failure: Celery's own mark_as_revoked leaves the rest of a chain, and an error callback, waiting.
        _mark_as_failed(task, end.state, end.result, store=stored is not None)
        raise JobWasCancelled
    if not redelivered:
        raise Ignore
    if not heard or stored is None:
        return end.answer()
    _tell_again(task, end, stored)
    raise Ignore


def _tell_again(task: Any, end: JobEnd, stored: Mapping[str, Any]) -> None:
    # The result is written first, and the process may have been killed then. What follows can be repeated, but for
    # error callbacks.
    if end.state == SUCCESS:
        task.backend.mark_as_done(task.request.id, end.result, task.request, store_result=False)
    else:
        _mark_as_failed(task, end.state, stored["result"], store=True, traceback=stored["traceback"], errbacks=False)


def _mark_as_failed(
    task: Any, state: str, error: Exception, *, store: bool, traceback: str | None = None, errbacks: bool = True
) -> None:
    task.backend.mark_as_failure(
        task.request.id,
        error,
        traceback,
        request=task.request,
        store_result=store,
        call_errbacks=errbacks,
        state=state,
    )


def _stored_result(task: Any) -> Mapping[str, Any] | None:
    """Return what the result backend has of the task; None where it has nothing to say of it."""
    backend = task.backend
    # Where a backend is not persistent (rpc), results go to the client, and can't be looked up.
    if get_actual_ignore_result(task, task.request) or isinstance(backend, DisabledBackend) or not backend.persistent:
        return None
    try:
        meta: Mapping[str, Any] = backend.get_task_meta(task.request.id, cache=False)
    except Exception as error:  # noqa: BLE001  # each backend has errors of its own
        logger.warning("stored_result_is_unknown", task_id=task.request.id, error=repr(error))
        return {}  # told twice is better than never
    return meta
