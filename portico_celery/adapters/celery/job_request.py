"""When a job's message is acknowledged: a knock as soon as a worker takes it up.

From then on the lease holds the job, not the broker: no redelivery to fend off, and no consumer_timeout, so that a job
may be of any length. A plain Celery client's message has no row until it is adopted: it is acknowledged after its run.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from billiard.exceptions import WorkerLostError
from celery.utils.log import get_logger
from celery.worker.request import Request
from celery.worker.state import task_ready

from portico_celery.adapters.celery.knock import knocked_job_id

logger = get_logger(__name__)


class JobRequest(Request):
    """Celery's request of a generated task."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._consumer_thread = threading.get_ident()

    def on_accepted(self, pid: Any, time_accepted: float) -> None:
        """Acknowledge a knock; then all that Celery does when a task starts."""
        if knocked_job_id(self.request_dict) is not None:
            self._acknowledge_now(runs_inline=pid == os.getpid() and threading.get_ident() == self._consumer_thread)
        super().on_accepted(pid, time_accepted)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Pass over the loss of a job's process: its lease ends, and then it is retried or dead-lettered, once."""
        if knocked_job_id(self.request_dict) is None or not _process_was_lost(exc_info):
            return super().on_failure(exc_info, send_failed_event, return_ok)
        # Celery would report a failure that is none yet, and call the errbacks of a canvas.
        task_ready(self)
        logger.error("the process of %s[%s] was lost; the job is taken up again after its lease", self.name, self.id)
        return None

    def _acknowledge_now(self, *, runs_inline: bool) -> None:
        if not runs_inline:
            self.acknowledge()
        elif not self.acknowledged:
            # In the solo pool Celery would come to acknowledge only when the job has ended.
            errors = self._connection_errors  # type: ignore[attr-defined]  # not in the type stubs
            self.message.ack_log_error(logger, errors)
            self.acknowledged = True


def _process_was_lost(exc_info: Any) -> bool:
    error = exc_info.exception
    # What crossed a process boundary is wrapped together with its traceback.
    error = getattr(error, "exc", error)
    return isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt)
