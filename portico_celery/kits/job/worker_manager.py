"""A worker within an application's own event loop, over any job queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico_celery.exceptions import ConfigurationError
from portico_celery.kits.job.handler_registry import HandlerRegistry
from portico_celery.kits.job.job_runner import JobRunner
from portico_celery.kits.job.new_job import valid_queue_name
from portico_celery.kits.job.port_claims import claims_of
from portico_celery.kits.job.worker_slots import WorkerSlots
from portico_celery.lifecycle import RetryPolicy
from portico_celery.ports.job_claims import KnownTypes
from portico_celery.ports.job_queue import JobQueueAdapter
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

DEFAULT_QUEUES = ("default",)


class WorkerManager:
    """Takes jobs from queues, the earlier ones of ``queues`` first, and runs up to ``concurrency`` at once.

    ``handlers`` are any objects with ``job_type``, ``handle`` and ``on_failure``, under their job type, or a registry
    of such. Durations are in seconds. Raises ConfigurationError.
    """

    def __init__(
        self,
        job_queue: JobQueueAdapter,
        handlers: Mapping[str, Any] | HandlerRegistry,
        concurrency: int = 10,
        queues: Sequence[str] = DEFAULT_QUEUES,
        *,
        retry_policy: RetryPolicy | None = None,
        time_limit: float | None = None,
        on_failure_time_limit: float = 30.0,
        unknown_job_type_seconds: float = 900.0,
    ) -> None:
        if concurrency < 1:
            raise ConfigurationError(f"concurrency must be 1 or more, not {concurrency!r}")
        self._claims = claims_of(job_queue)
        self._concurrency = concurrency
        self._queues = _checked_queues(queues)
        self._runner = JobRunner(
            handlers if isinstance(handlers, HandlerRegistry) else _registry_of(handlers),
            retry_policy=retry_policy or RetryPolicy(),
            default_time_limit=time_limit,
            on_failure_time_limit=on_failure_time_limit,
        )
        self._known = KnownTypes(includes=self._runner.handles, patience=unknown_job_type_seconds)
        self._slots: WorkerSlots | None = None

    @property
    def is_running(self) -> bool:
        """Whether it takes jobs."""
        return self._slots is not None and not self._slots.gone and not self._slots.stopping

    async def start(self) -> None:
        """Begin to take jobs, in the event loop that runs here. Starting twice is starting once, with a warning."""
        if self._slots is not None and self._slots.stopping:
            await self.stop()  # one that was broken off
        if self._slots is not None and not self._slots.gone:
            logger.warning("worker_manager_already_started", queues=",".join(self._queues))
            return
        self._slots = WorkerSlots(self._claims, self._runner, self._queues, self._concurrency, self._known)
        logger.info("worker_manager_started", queues=",".join(self._queues), concurrency=self._concurrency)

    async def stop(self, grace: float | None = 25.0) -> None:
        """Take no more jobs, and wait up to ``grace`` seconds (None: for as long as it takes) for those in flight.

        Then they get CancelledError at their next ``await``, and are given back to their queue. A job of
        ``max_retries=0``, which must not start twice, is let run to its end; so is, over a queue that has the port's
        methods only, a job without retries left, which could not go back.
        """
        slots = self._slots
        if slots is None:
            return
        await slots.stop(grace)
        if self._slots is slots:
            self._slots = None
            logger.info("worker_manager_stopped", queues=",".join(self._queues))


def _checked_queues(queues: Sequence[str]) -> tuple[str, ...]:
    if isinstance(queues, str) or not queues:
        raise ConfigurationError(f"queues must be a list of queue names, not {queues!r}")
    return tuple(dict.fromkeys(valid_queue_name(name) for name in queues))


def _registry_of(handlers: Mapping[str, Any]) -> HandlerRegistry:
    registry = HandlerRegistry()
    for name, handler in handlers.items():
        job_type = registry.register(handler)
        if job_type.name != name:
            raise ConfigurationError(
                f"handlers has {type(handler).__qualname__} under {name!r}, but its job_type is {job_type.name!r}"
            )
    return registry
