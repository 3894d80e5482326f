"""The worker's consumer: Celery's own, which finds its queues as they are and survives what Celery's would not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from amqp.exceptions import AMQPNotImplementedError, PreconditionFailed
from celery.bootsteps import CLOSE, TERMINATE  # type: ignore[attr-defined]  # not in the type stubs
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.consumer import Consumer
from kombu import Connection, Message

from portico_celery.adapters.celery import topology
from portico_celery.adapters.celery.broker_connection import bound_waits
from portico_celery.adapters.celery.delivery import fault_as_job
from portico_celery.adapters.celery.job_task import JobTask
from portico_celery.adapters.celery.knock import knocked_job_id
from portico_celery.adapters.celery.parking import park
from portico_celery.adapters.celery.task_message import fault_of, task_name_of
from portico_celery.adapters.celery.unknown_jobs import UnknownJobs
from portico_celery.ports.job_store import Postponement

logger = get_logger(__name__)

# Before a message is given back that could not be parked.
_PAUSE_SECONDS = 1.0


def _prefetch_for_each_queue(connection: Any) -> bool:  # noqa: ARG001  # kombu's signature
    return True


def _keep_it() -> None:
    return


class PorticoConsumer(Consumer):
    """Celery 5.7's consumer, hardened.

    A malformed message ends a stock worker, and the next one, and the next; here it is parked. A queue that exists is
    not declared again with other arguments, which would end the worker too; nor does one that turns out to be a quorum
    queue, which knows no prefetch count for a whole channel. A channel that the broker closes, since a message waited
    in a busy worker for longer than consumer_timeout, is opened again. A threads pool whose connection breaks in the
    middle of its jobs consumes again when it is back, and so does any pool whose Redis was restarted. And one that was
    told to stop takes no further message.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own_errors: tuple[type[BaseException], ...] = self.connection_errors  # type: ignore[has-type]  # not in the stubs
        # What Redis answers while its memory or its disk is full; Celery's worker would end of it.
        conninfo: Connection = self.conninfo  # type: ignore[attr-defined]  # not in the stubs
        of_redis = conninfo.channel_errors if conninfo.transport.driver_type == "redis" else ()
        self._lost_connections = (*own_errors, PreconditionFailed)
        self.connection_errors = (*self._lost_connections, *of_redis)
        self._prefetch_for_each_queue = False

    def update_strategies(self) -> None:
        """Have a request whose acknowledgement is refused say so: it would take up a place among the prefetched."""
        known, self.connection_errors = self.connection_errors, self._lost_connections
        try:
            super().update_strategies()  # each strategy takes these along
        finally:
            self.connection_errors = known

    def connect(self) -> Connection:
        """Connect, and see which queues exist, before anything is declared."""
        connection = super().connect()
        if self._prefetch_for_each_queue:
            # What Celery asks to learn what its prefetch count may apply to. Of this transport alone: assigned.
            connection.transport.qos_semantics_matches_spec = _prefetch_for_each_queue  # type: ignore[method-assign]  # see above
        topology.adopt_existing(connection, self.app.amqp.queues.consume_from.values())
        return connection

    def ensure_connected(self, conn: Connection) -> Connection:
        """Connect, and wait for no broker for ever: the worker would stand still."""
        bound_waits(conn)
        connected: Connection = super().ensure_connected(conn)
        return connected

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Reconnect; where the broker refused to consume from a quorum queue, in a way that it takes."""
        # An existing queue does not tell its type otherwise.
        if isinstance(exc, AMQPNotImplementedError) and "global qos" in str(exc):
            self._prefetch_for_each_queue = True
        if self.connection is not None:
            # A Redis channel finds its server by its transport. Celery takes that away, closes the channel once more
            # and lets jobs acknowledge what came by it: each would end the worker with an AttributeError. It calls this
            # on the object itself, whose class is kombu's: assigned.
            self.connection._do_close_transport = _keep_it  # type: ignore[method-assign]  # see above
        super().on_connection_error_after_connected(exc)

    def _restore_prefetch_count_after_connection_restart(self, p: Any, *args: Any) -> None:
        # Celery does this in whatever thread acknowledges. Of a pool with threads that thread would then wait for the
        # broker's answer on the very socket that the main loop reads, and the two would stand still for ever.
        restore = super()._restore_prefetch_count_after_connection_restart  # type: ignore[misc]  # not in the stubs
        self.call_soon(restore, p, *args)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Message], Any]:
        """Return Celery's handler of messages, which now parks what it chokes on."""
        handle = super().create_task_handler(*args, **kwargs)

        def on_task_received(message: Message) -> Any:
            if self._stops:
                # Celery goes on to take what comes, one job after the other in a solo pool. Unacknowledged, it goes
                # back to its queue when the connection closes.
                return None
            fault = fault_of(message) or self._fault_as_job(message)
            if fault is not None:
                return self._park(message, fault)
            job_id = knocked_job_id(message.headers or {})
            if job_id is not None and self._is_ordinary_task(message):
                return self._put_back(message, job_id)
            try:
                return handle(message)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                if message.acknowledged:
                    raise
                return self._park(message, repr(error))

        return on_task_received

    def _fault_as_job(self, message: Message) -> str | None:
        # Here, where the message still is: in the pool there is only the call of a task, which would be lost.
        plain = knocked_job_id(message.headers or {}) is None
        return fault_as_job(message) if plain and isinstance(self._task_of(message), JobTask) else None

    def _is_ordinary_task(self, message: Message) -> bool:
        # A knock has no arguments: run as the task of that name, it would be a call that nobody has made.
        task = self._task_of(message)
        return task is not None and not isinstance(task, JobTask)

    def _task_of(self, message: Message) -> Any | None:
        name = task_name_of(message)
        return None if name is None else self.app.tasks.get(name)

    @property
    def _stops(self) -> bool:
        told: tuple[Any, ...] = (state.should_stop, state.should_terminate)
        return self.blueprint.state in (CLOSE, TERMINATE) or any(
            code is not None and code is not False for code in told
        )

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        """Park a message whose body can't be read; Celery would acknowledge it, and it would be gone."""
        self._park(message, f"the body can't be decoded: {exc!r}")

    def on_unknown_message(self, body: Any, message: Message) -> None:  # noqa: ARG002  # Celery's signature
        """Park a message that is not a task."""
        self._park(message, "not a Celery task message")

    def on_invalid_task(self, body: Any, message: Message, exc: Exception) -> None:  # noqa: ARG002  # Celery's
        """Park a task message with invalid parts."""
        self._park(message, f"invalid task message: {exc!r}")

    def on_unknown_task(self, body: Any, message: Message, exc: Exception) -> None:
        """Put a job back whose type this worker has no handler for; another unknown task is parked, not dropped."""
        job_id = knocked_job_id(message.headers or {})
        if job_id is not None:
            self._put_back(message, job_id)
        else:
            # All that Celery does on this occasion, but for what becomes of the message, which it tells the message
            # itself: assigned.
            parked = partial(self._park, message, f"no such task here: {exc}")
            message.reject_log_error = lambda *_args, **_kwargs: parked()  # type: ignore[method-assign]  # see above
            super().on_unknown_task(body, message, exc)

    def _put_back(self, message: Message, job_id: UUID) -> None:
        portico: Any = self.app.portico  # type: ignore[attr-defined]  # set by init_app
        postponement = Postponement(
            job_id=job_id,
            job_type=str(task_name_of(message)),
            worker=f"{self.hostname}/{os.getpid()}",
            patience=portico.settings.unknown_job_type_seconds,
        )
        acknowledge = partial(message.ack_log_error, logger, self.connection_errors)
        # The answer comes in another thread, and the connection is this one's.
        unknown_jobs: UnknownJobs = portico.unknown_jobs
        unknown_jobs.put_back(postponement, partial(self.call_soon, acknowledge))

    def _park(self, message: Message, reason: str) -> None:
        if park(self.app, message, reason):
            message.ack_log_error(logger, self.connection_errors)
        else:
            time.sleep(_PAUSE_SECONDS)
            message.reject_log_error(logger, self.connection_errors, requeue=True)
