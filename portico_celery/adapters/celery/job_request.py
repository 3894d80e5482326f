"""When a job's message is acknowledged: a knock as soon as a worker takes it up, unless somebody waits for its result.

From then on the lease holds the job, not the broker: no redelivery to fend off, and no consumer_timeout, so that a job
may be of any length. Two kinds of messages are acknowledged after their run: a plain Celery client's, which has no row
until it is adopted, and a knock of a job that has a result for Celery, or a part in a canvas. Where the process dies
between the end in the row and that result, the message comes back to make up for it.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from typing import Any

from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import signals
from celery.backends.base import DisabledBackend
from celery.platforms import signals as process_signals
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.request import Request
from celery.worker.state import task_ready
from kombu.asynchronous import get_event_loop

from portico_celery.adapters.celery.job_end import JobWasCancelled
from portico_celery.adapters.celery.job_execution import JobExecution
from portico_celery.adapters.celery.knock import CANVAS_EMBED, adopted_job_id, knocked_job_id
from portico_celery.adapters.celery.origin import ORIGIN, origin_of
from portico_celery.ports.job import Job

logger = get_logger(__name__)


class JobRequest(Request):
    """Celery's request of a generated task."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._consumer_thread = threading.get_ident()
        delivery_info: Any = self.delivery_info
        delivery_info[ORIGIN] = origin_of(self.message)

    def on_accepted(self, pid: Any, time_accepted: float) -> None:
        """Acknowledge a knock that nobody waits for; then all that Celery does when a task starts."""
        if knocked_job_id(self.request_dict) is not None and not self._somebody_waits:
            self._acknowledge_now(runs_inline=pid == os.getpid() and threading.get_ident() == self._consumer_thread)
        super().on_accepted(pid, time_accepted)

    @property
    def _somebody_waits(self) -> bool:
        """Whether Celery has to hear of the job's end: it has a result to store, or a part in a canvas."""
        if not self.ignore_result and not isinstance(self.task.backend, DisabledBackend):
            return True
        embed = self._payload[2] or {}  # type: ignore[attr-defined]  # not in the stubs
        return any(embed.get(part) for part in CANVAS_EMBED)

    def revoked(self) -> bool:
        """Whether Celery is to drop the message. A knock is never dropped: its row says whether the job was cancelled.

        A worker remembers for hours what was revoked, and would pass over the retries of a job that was running then,
        and over one that was cancelled and has been requeued since.
        """
        if knocked_job_id(self.request_dict) is not None:
            return False
        return bool(super().revoked())

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """End the process that runs the job. Whether the job was cancelled, its row says, and whoever is told of it."""
        if self.time_start:
            pool.terminate_job(self.worker_pid, process_signals.signum(signal))

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Tell of a job that was cancelled, and pass over the loss of a job's process.

        A lost process: its lease ends, and then the job is retried or dead-lettered, once.
        """
        error = _error_of(exc_info)
        if isinstance(error, JobWasCancelled):
            self._announce_cancelled_job()
            return None
        if isinstance(error, TimeLimitExceeded):
            return None  # Celery's pool calls on_timeout next
        if not isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt):
            return super().on_failure(exc_info, send_failed_event, return_ok)
        # Celery would report a failure that is none yet, and call the errbacks of a canvas.
        task_ready(self)
        logger.error("the process of %s[%s] was lost; the job is taken up again after its lease", self.name, self.id)
        self._return_message()
        return None

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Take the end of a process at Celery's hard time limit as its loss, but at once, without waiting for a lease.

        Here too Celery would report a failure, whether the job is retried or not.
        """
        if soft:
            super().on_timeout(soft, timeout)
            return
        task_ready(self)
        terminates: Any = state.should_terminate
        if terminates:
            # Celery ends what it has in hand, whatever its time limit: the lease sees to the job.
            self._return_message()
            return
        logger.error("the process of %s[%s] is killed at its hard time limit of %s s", self.name, self.id, timeout)
        job_id = knocked_job_id(self.request_dict) or adopted_job_id(self.id)
        worker = f"{self.hostname}/{self.worker_pid}"
        execution: JobExecution = self.task.execution  # type: ignore[attr-defined]  # JobTask's
        # The message not before the row says what becomes of the job: whoever gets it acts on that.
        ended = execution.end_by_time_limit(job_id, worker=worker, time_limit=timeout)
        ended.add_done_callback(self._on_attempt_ended)

    def _on_attempt_ended(self, done: Future[Job | None]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            logger.error("the job %s[%s] is taken up again after its lease: %r", self.name, self.id, error)
        # In the thread that reads the connection, where there is one: two must not write to it.
        hub: Any = get_event_loop()
        if hub is None:
            self._return_message()
        else:
            hub.call_soon(self._return_message)

    def _return_message(self) -> None:
        # Whoever gets it does what there is to do: to begin, to tell of an end that was just recorded, or nothing.
        # Nothing happens where it is acknowledged.
        self.reject(requeue=True)

    def _announce_cancelled_job(self) -> None:
        # What Celery does for a revoked task, but for the result, which the task itself has stored.
        task_ready(self)
        self.send_event("task-revoked", terminated=False, signum=None, expired=False)
        self.acknowledge()
        context = self._context  # type: ignore[attr-defined]  # not in the stubs
        signals.task_revoked.send(sender=self.task, request=context, terminated=False, signum=None, expired=False)

    def _acknowledge_now(self, *, runs_inline: bool) -> None:
        if not runs_inline:
            self.acknowledge()
        elif not self.acknowledged:
            # In the solo pool Celery would come to acknowledge only when the job has ended.
            errors = self._connection_errors  # type: ignore[attr-defined]  # not in the type stubs
            self.message.ack_log_error(logger, errors)
            self.acknowledged = True


def _error_of(exc_info: Any) -> Any:
    error = exc_info.exception
    # What crossed a process boundary is wrapped together with its traceback.
    return getattr(error, "exc", error)
