"""What becomes of a message that was fetched for a caller: its job is claimed, and then it is acknowledged."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from celery import Celery
from kombu import Message
from kombu.serialization import prepare_accept_content

from portico_celery.adapters.celery.delivery import Delivery, UnreadableMessage, claim_of, read_delivery, time_of
from portico_celery.adapters.celery.job_task import JobTask
from portico_celery.adapters.celery.parking import park
from portico_celery.adapters.celery.process_io import ProcessIO
from portico_celery.adapters.celery.pull.message_source import MessageSource
from portico_celery.adapters.celery.pull.pull_call import PullCall
from portico_celery.adapters.celery.pull.pull_thread import PullThread
from portico_celery.adapters.celery.unknown_jobs import UnknownJobs
from portico_celery.exceptions import StoreError, StoreUnavailable
from portico_celery.ports.job_store import Claim, ClaimedJob, Postponement
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

_PAUSE_SECONDS = 1.0

GiveBack = Callable[[ClaimedJob], None]


@dataclass(frozen=True, kw_only=True)
class _Taken:
    """A message in hand, the caller that it was fetched for, and the claim of its job."""

    call: PullCall
    message: Message
    delivery: Delivery
    claim: Claim
    patient_until: float


class PulledMessages:
    """Takes up messages in the pull thread, and answers their callers from the I/O thread.

    ``is_declared`` says which names are job types here; the app's other tasks share the queues, and a process that runs
    none may not even have imported them. ``give_back`` is called with a job that nobody waits for any more.
    """

    def __init__(
        self,
        app: Celery,
        io: ProcessIO,
        unknown_jobs: UnknownJobs,
        give_back: GiveBack,
        *,
        is_declared: Callable[[str], bool],
    ) -> None:
        self._app = app
        self._io = io
        self._unknown_jobs = unknown_jobs
        self._give_back = give_back
        self._is_declared = is_declared
        self._thread: PullThread | None = None
        self._worker = f"{socket.gethostname()}/{os.getpid()}/pull"
        self._accept = prepare_accept_content(app.conf.accept_content)

    def served_by(self, thread: PullThread) -> None:
        """Say by which thread the messages come and are settled."""
        self._thread = thread

    @property
    def _messages(self) -> PullThread:
        if self._thread is None:
            raise RuntimeError("served_by() comes first")
        return self._thread

    def take_up(self, call: PullCall, message: Message) -> None:
        """Claim the job of a message, park what can't be read, and put back what is not ours."""
        message.accept = self._accept
        try:
            delivery = read_delivery(message, worker_name=self._worker)
            take_up = self._take_up_call if delivery.knocked_job_id is None else self._take_up_knock
            take_up(call, message, delivery)
        except UnreadableMessage as error:
            parked = park(self._app, message, str(error))
            self._messages.settle(call, message, requeue=not parked, after=0.0 if parked else _PAUSE_SECONDS)

    def _take_up_knock(self, call: PullCall, message: Message, delivery: Delivery) -> None:
        job_id = delivery.knocked_job_id
        if job_id is not None and call.known is not None and not call.knows(delivery.job_type):
            self._put_back(call, message, job_id, delivery.job_type, call.known.patience)
        else:
            self._claim_for(call, message, delivery)

    def _take_up_call(self, call: PullCall, message: Message, delivery: Delivery) -> None:
        expires = time_of(delivery.request, "expires")
        if not self._is_job(call, delivery.job_type):
            self._messages.do_later(0.0, partial(self._pass_over, call, message, delivery.job_type))
        elif expires is not None and expires <= datetime.now(UTC):
            logger.warning("message_expired", task_id=delivery.task_id, job_type=delivery.job_type)
            self._messages.settle(call, message)
        else:
            self._claim_for(call, message, delivery)

    def _is_job(self, call: PullCall, job_type: str) -> bool:
        task = self._app.tasks.get(job_type)
        declared = task is None and (self._is_declared(job_type) or call.handles(job_type))
        return declared or isinstance(task, JobTask)

    def _pass_over(self, call: PullCall, message: Message, name: str, source: MessageSource) -> None:
        if source.pass_over(call, message):
            self._messages.do_later(_PAUSE_SECONDS, lambda source: source.bring_back(call))
            logger.error(
                "task_is_no_job",
                task=name,
                queue_name=call.queue_name,
                hint="it is left to a worker that has this task; register or declare it here if it is a job type",
            )

    def _claim_for(self, call: PullCall, message: Message, delivery: Delivery) -> None:
        claim = claim_of(delivery, worker=self._worker, lease_seconds=self._io.settings.lease_seconds)
        if claim.adopt is not None:
            # With the time that its client wants it to run at (eta, countdown), before which it is stored, not taken.
            claim = replace(claim, adopt=replace(claim.adopt, scheduled_at=time_of(delivery.request, "eta")))
        patient_until = time.monotonic() + claim.lease_seconds
        self._claim(_Taken(call=call, message=message, delivery=delivery, claim=claim, patient_until=patient_until))

    def _put_back(self, call: PullCall, message: Message, job_id: UUID, job_type: str, patience: float) -> None:
        postponement = Postponement(job_id=job_id, job_type=job_type, worker=self._worker, patience=patience)
        self._unknown_jobs.put_back(postponement, partial(self._messages.settle, call, message))

    def _claim(self, taken: _Taken) -> None:
        self._io.claim(taken.claim).add_done_callback(partial(self._on_answer, taken))

    def _on_answer(self, taken: _Taken, done: Future[list[ClaimedJob | None]]) -> None:
        error = done.exception()
        if error is not None:
            self._on_error(taken, error)
            return
        (claimed,) = done.result()
        taken.call.fault = None
        if claimed is not None:
            self._hand_out(taken.call, claimed)
        # A knock that claimed nothing has been answered too; its caller gets the next message.
        self._messages.settle(taken.call, taken.message)

    def _hand_out(self, call: PullCall, claimed: ClaimedJob) -> None:
        # Where the time of its caller has run out meanwhile, it is the next one's. The job of a plain client's message,
        # where nobody here knows its type, is stored by now, and knocks like any other.
        def takes(each: PullCall) -> bool:
            return each.knows(claimed.job.job_type) and each.answer(claimed)

        if not takes(call) and not any(takes(other) for other in self._messages.others(call.queue_name)):
            self._give_back(claimed)

    def _on_error(self, taken: _Taken, error: BaseException) -> None:
        knocked = taken.delivery.knocked_job_id is not None
        if isinstance(error, StoreError):
            taken.call.fault = error
        if isinstance(error, StoreUnavailable) and time.monotonic() < taken.patient_until:
            # The same claim again, also for a caller that has gone: it may have been stored, its answer lost.
            logger.warning("claim_waits_for_store", task_id=taken.delivery.task_id, error=str(error))
            self._messages.do_later(_PAUSE_SECONDS, lambda _source: self._claim(taken))
            return
        logger.error("claim_failed", task_id=taken.delivery.task_id, error=repr(error))
        # The row of a knock stays due, whatever the store has against it; else this message is all there is of the job.
        requeue = not knocked or isinstance(error, StoreUnavailable)
        self._messages.settle(taken.call, taken.message, requeue=requeue, after=_PAUSE_SECONDS)
