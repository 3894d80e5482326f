"""Which queues there are and how they are declared, without ever meeting a 406.

An existing queue is used as it is found, by whoever declares it. A queue that the app names itself is created as the
app declares it, and so is one that an ordinary task is sent to. Only other names, the job queues, are created by us:
durable, with ten priorities, and no further argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from amqp.exceptions import AccessRefused, NotFound, PreconditionFailed
from celery import Celery
from celery.utils.functional import maybe_list
from kombu import Connection, Queue
from kombu.transport import pyamqp

from portico_celery.adapters.celery.broker_connection import is_amqp
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

MAX_PRIORITY = 10
_REDIS_LEAST_URGENT = 9


class AdoptingQueue(Queue):
    """A queue that nobody has described. Whoever declares it takes it as it is, if it is there."""

    def queue_declare(self, nowait: bool = False, passive: bool = False, channel: Any = None) -> Any:
        """Declare it, unless the broker has it."""
        channel = channel or self.channel
        if not passive and isinstance(channel, pyamqp.Channel) and _is_there(channel, self.name):
            return self.name
        return super().queue_declare(nowait=nowait, passive=passive, channel=channel)


def _is_there(channel: Any, name: str) -> bool:
    # A broker's No closes the channel it was asked on, and only that.
    scratch = channel.connection.channel()
    try:
        scratch.queue_declare(name, passive=True)
    except NotFound:
        return False
    finally:
        scratch.close()
    return True


def job_queue(app: Celery, name: str) -> Queue:
    """Return the queue of this name as it is to be made for jobs. Raises KeyError where the app makes no queues."""
    queues: Any = app.amqp.queues
    queue: Queue = queues.for_jobs(name)
    return queue


def install(app: Celery, job_queues: Callable[[], Iterable[str]]) -> None:
    """Teach ``app.amqp.queues`` to declare job queues with priorities, and to consume from ``job_queues``.

    ``job_queues`` is called each time that somebody asks what to consume from, so that it does not matter when the app
    first looked at its queues; a worker's ``-Q`` still selects its own.
    """
    made_before = vars(app.amqp).get("queues")
    # The app may have its own class of queues.
    queues_cls: Any = app.amqp.queues_cls if made_before is None else type(made_before)

    class JobQueues(queues_cls):  # type: ignore[misc]  # a class that is known at run time only
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.begin()

        def begin(self) -> None:
            self._named_by_the_app = {*self, *_named_in_configuration(app)}
            self._job_queues: set[str] = set()

        @property
        def consume_from(self) -> dict[str, Queue]:
            if self._consume_from is None:
                self._add_job_queues()
            queues: dict[str, Queue] = super().consume_from
            return queues

        def deselect(self, exclude: Any) -> None:
            self._add_job_queues()  # once, so that they are not added again
            super().deselect(exclude)

        def _add_job_queues(self) -> None:
            for name in job_queues():
                if name not in self._job_queues and (name in self or self.create_missing):
                    self._job_queues.add(name)
                    queue = self.for_jobs(name)
                    self._default_consume_from[queue.name] = queue

        def select(self, include: Any) -> None:
            for name in maybe_list(include) or ():
                self.for_jobs(name)
            super().select(include)

        def for_jobs(self, name: str) -> Queue:
            """Return a queue that jobs may come by: with priorities, where nobody says otherwise."""
            queue: Queue = self[name]
            ours = isinstance(queue, AdoptingQueue) and name not in self._named_by_the_app
            if ours and not queue.queue_arguments and self.max_priority is None:
                queue.queue_arguments = {"x-max-priority": MAX_PRIORITY}
            return queue

        def new_missing(self, name: str) -> Queue:
            queue: Queue = super().new_missing(name)
            queue.__class__ = AdoptingQueue  # all that Celery has given it stays
            return queue

    app.amqp.queues_cls = JobQueues
    if made_before is not None:
        # The same object: routers and senders of tasks hold it.
        made_before.__class__ = JobQueues
        made_before.begin()


def _named_in_configuration(app: Celery) -> Iterator[str]:
    yield app.conf.task_default_queue
    yield from _queues_in_routes(app.conf.task_routes)


def _queues_in_routes(routes: Any) -> Iterator[str]:
    # task_routes is a dict, or a list of dicts, pairs and functions; what a function may name can't be known.
    if isinstance(routes, dict):
        for route in routes.values():
            name = route.get("queue") if isinstance(route, dict) else route
            if isinstance(name, Queue):
                yield str(name.name)
            elif isinstance(name, str):
                yield name
    elif isinstance(routes, list | tuple):
        for entry in routes:
            is_pair = isinstance(entry, list | tuple) and len(entry) == 2 and isinstance(entry[0], str)
            yield from _queues_in_routes({entry[0]: entry[1]} if is_pair else entry)


@contextmanager
def _scratch_channel(connection: Connection) -> Iterator[Any]:
    # A broker's No closes the channel it was asked on, and only that.
    channel: Any = connection.channel()
    try:
        yield channel
    finally:
        channel.close()


def exists(connection: Connection, name: str) -> bool:
    """Whether the broker has the queue."""
    try:
        with _scratch_channel(connection) as channel:
            Queue(name, channel=channel).queue_declare(passive=True)
    except NotFound:
        return False
    return True


def depth(connection: Connection, name: str) -> int:
    """Return how many messages wait in the queue; 0 where there is no such queue."""
    try:
        with _scratch_channel(connection) as channel:
            declared: Any = Queue(name, channel=channel).queue_declare(passive=True)
            return int(declared.message_count)
    except connection.channel_errors:
        return 0


def ensure_queue(connection: Connection, queue: Queue) -> None:
    """See to it that the queue is there, as it is found or else as it is declared."""
    if is_amqp(connection) and exists(connection, queue.name):
        return
    with _scratch_channel(connection) as channel:
        queue.bind(channel).declare()


def adopt_existing(connection: Connection, queues: Iterable[Queue]) -> None:
    """Mark the queues that exist, so that Celery consumes from them without declaring them again."""
    if is_amqp(connection):
        for queue in queues:
            found = exists(connection, queue.name)
            queue.no_declare = found  # type: ignore[attr-defined]  # not in the type stubs
            if found:
                _bind_as_declared(connection, queue)


def _bind_as_declared(connection: Connection, queue: Queue) -> None:
    # Celery would have bound the queue when it declared it, and its clients publish to that exchange.
    if not queue.exchange.name:
        return
    try:
        with _scratch_channel(connection) as channel:
            bound = queue.bind(channel)
            bound.exchange.declare()
            bound.queue_bind()
    except (PreconditionFailed, AccessRefused) as error:
        logger.warning("existing_queue_left_unbound", queue_name=queue.name, error=str(error))


def broker_priority(connection: Connection, priority: int) -> int:
    """Return the broker's number for a job's priority, of which higher is more urgent and any integer will do."""
    if connection.transport.driver_type == "redis":
        return _REDIS_LEAST_URGENT - min(_REDIS_LEAST_URGENT, max(0, priority))
    return min(MAX_PRIORITY, max(0, priority))


def job_priority(connection: Connection, priority: object) -> int:
    """Return a job's priority for a broker's number; a message that has none is as urgent as its broker takes it."""
    number = priority if isinstance(priority, int) else 0
    if connection.transport.driver_type == "redis":
        return _REDIS_LEAST_URGENT - min(_REDIS_LEAST_URGENT, max(0, number))
    return number
