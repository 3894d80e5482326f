"""When a job's message is acknowledged: a knock as soon as a worker takes it up.

From then on the lease holds the job, not the broker: no redelivery to fend off, and no consumer_timeout, so that a job
may be of any length. A plain Celery client's message has no row until it is adopted: it is acknowledged after its run.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from celery.utils.log import get_logger
from celery.worker.request import Request

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

    def _acknowledge_now(self, *, runs_inline: bool) -> None:
        if not runs_inline:
            self.acknowledge()
        elif not self.acknowledged:
            # In the solo pool Celery would come to acknowledge only when the job has ended.
            errors = self._connection_errors  # type: ignore[attr-defined]  # not in the type stubs
            self.message.ack_log_error(logger, errors)
            self.acknowledged = True
