"""Pull mode: callers that take jobs one by one from the queues that workers consume from."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from celery import Celery

from portico_celery.adapters.celery.broker_connection import is_amqp
from portico_celery.adapters.celery.process_io import ProcessIO
from portico_celery.adapters.celery.pull.amqp_source import AMQPSource
from portico_celery.adapters.celery.pull.message_source import MessageSource, TakeUp
from portico_celery.adapters.celery.pull.polling_source import PollingSource
from portico_celery.adapters.celery.pull.pull_call import PullCall
from portico_celery.adapters.celery.pull.pull_thread import PullThread
from portico_celery.adapters.celery.pull.pulled_messages import PulledMessages
from portico_celery.adapters.celery.pull.sweep_on_demand import SweepOnDemand
from portico_celery.adapters.celery.sweep import Sweep
from portico_celery.adapters.celery.unknown_jobs import UnknownJobs
from portico_celery.exceptions import ValidationError
from portico_celery.lifecycle import Released, decide
from portico_celery.ports.job import Job
from portico_celery.ports.job_claims import KnownTypes
from portico_celery.ports.job_store import ClaimedJob, Finish, Knock
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

_MAX_QUEUE_NAME_BYTES = 255


class PullMode:
    """Hands out jobs in one process. A message is fetched only for who waits, and acknowledged at the claim."""

    def __init__(
        self,
        app: Celery,
        io: ProcessIO,
        sweep: Sweep,
        unknown_jobs: UnknownJobs,
        *,
        is_declared: Callable[[str], bool],
    ) -> None:
        self._io = io
        self._sweeping = SweepOnDemand(io, sweep)
        messages = PulledMessages(app, io, unknown_jobs, self.give_back, is_declared=is_declared)
        self._thread = PullThread(partial(_source, app), messages.take_up)
        messages.served_by(self._thread)

    async def take(self, queue_name: str, timeout: float, known: KnownTypes | None = None) -> ClaimedJob | None:
        """Take a job, or a dead letter whose handler has to hear of a lost worker; with ``known`` only of these types.

        None after ``timeout`` seconds; with 0 it looks once. Raises StoreUnavailable where there was a job in all that
        time, and the store did not answer; ValidationError for a queue that can't be. A caller that is cancelled
        leaves no job behind.
        """
        _check(queue_name)
        call = PullCall(queue_name, timeout, known)
        with self._sweeping.needed():
            self._thread.add(call)
            try:
                await call.wait()
            except BaseException:
                claimed = call.abandon()
                if claimed is not None:
                    self.give_back(claimed)
                raise
            finally:
                self._thread.remove(call)
        return call.end()

    def give_back(self, claimed: ClaimedJob) -> None:
        """Give back a job whose handler has not begun, in the background: it spends no retry."""
        transition = decide(claimed.job, Released(worker=claimed.worker, attempt=claimed.attempt))
        finish = Finish(job_id=claimed.job.id, attempt=claimed.attempt, transition=transition)
        self._io.finish(finish).add_done_callback(partial(self._on_given_back, claimed))

    def _on_given_back(self, claimed: ClaimedJob, done: Future[list[Job | None]]) -> None:
        error = done.exception()
        if error is not None:
            logger.error(
                "give_back_failed", job_id=str(claimed.job.id), error=str(error), hint="its lease gives it back"
            )
            return
        (job,) = done.result()
        if job is not None:
            self._io.knock(Knock(job=job, envelope=claimed.envelope))

    def close(self) -> None:
        """End the thread, and answer None to whoever waits."""
        self._sweeping.stop()
        self._thread.close()


def _source(app: Celery, take_up: TakeUp) -> MessageSource:
    return AMQPSource(app, take_up) if is_amqp(app.connection_for_read()) else PollingSource(app, take_up)


def _check(queue_name: object) -> None:
    if not isinstance(queue_name, str) or not 0 < len(queue_name.encode()) <= _MAX_QUEUE_NAME_BYTES:
        raise ValidationError(f"queue_name must be text of 1 to {_MAX_QUEUE_NAME_BYTES} bytes, not {queue_name!r}")
