"""Which queues there are and how they are declared, without ever meeting a 406.

An existing queue is used as it is found. A queue that the app names itself is created as the app declares it. Only
other names, the job queues, are created by us: durable, with ten priorities, and no further argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from amqp.exceptions import AccessRefused, NotFound, PreconditionFailed
from celery import Celery
from kombu import Connection, Queue

from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

MAX_PRIORITY = 10
_REDIS_LEAST_URGENT = 9


def install(app: Celery, job_queues: Callable[[], Iterable[str]]) -> None:
    """Teach ``app.amqp.queues`` to declare job queues with priorities, and to consume from ``job_queues``.

    ``job_queues`` is called when the queues are first asked for; a worker's ``-Q`` still selects its own.
    """

    class JobQueues(app.amqp.queues_cls):  # type: ignore[name-defined,misc]  # the app may have its own class of queues
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._named_by_the_app = {*self, *_named_in_configuration(app)}
            for name in job_queues():
                if name in self or self.create_missing:
                    self.select_add(self[name])

        def new_missing(self, name: str) -> Queue:
            queue: Queue = super().new_missing(name)
            if name not in self._named_by_the_app and not queue.queue_arguments and self.max_priority is None:
                queue.queue_arguments = {"x-max-priority": MAX_PRIORITY}
            return queue

    app.amqp.queues_cls = JobQueues


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


def is_amqp(connection: Connection) -> bool:
    """Whether the broker is one that declares queues with arguments and refuses other ones."""
    return bool(connection.transport.driver_type == "amqp")


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
