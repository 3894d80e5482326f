"""The one place that wires ports, kits and adapters: PorticoCelery, which an application holds."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from celery import Celery, signals

from portico_celery.adapters.celery import memory_transport, topology
from portico_celery.adapters.celery.job_execution import JobExecution
from portico_celery.adapters.celery.job_task import check_task, define_task
from portico_celery.adapters.celery.process_io import ProcessIO, ProcessIOProvider
from portico_celery.adapters.celery.settings import PorticoSettings, read_settings
from portico_celery.adapters.celery.sweep import Sweep
from portico_celery.adapters.celery.worker_step import refuse_green_pool, worker_step
from portico_celery.adapters.job_queue.celery_queue import CeleryJobQueueAdapter
from portico_celery.adapters.job_store.memory_store import MemoryJobStore
from portico_celery.adapters.job_store.sql_store import SqlJobStore
from portico_celery.exceptions import ConfigurationError
from portico_celery.kits.job import HandlerRegistry, JobRunner, JobService, SyncJobService
from portico_celery.kits.job.job_service import DEFAULT_QUEUE
from portico_celery.lifecycle import RetryPolicy
from portico_celery.ports.job_store import JobStore

_MEMORY_URL = "memory://"
_CONSUMER = "portico_celery.adapters.celery.consumer:PorticoConsumer"


class PorticoCelery:
    """Runs Portico's job handlers on a Celery app.

    ``store`` is the URL of the job store; without it, the app's setting portico_store_url says. Nothing connects
    until a job is created or a worker starts. With no ``app``, call ``init_app`` later.
    """

    def __init__(self, app: Celery | None = None, *, store: str | None = None) -> None:
        self._store_url = store
        self._app: Celery | None = None
        self._registry = HandlerRegistry()
        self._ignore_result: dict[str, bool] = {}
        self._io = ProcessIOProvider(self._make_io, prepare=self.check)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Celery) -> None:
        """Attach to a Celery app; it is found there as ``app.portico``.

        Raises ConfigurationError where the app has one already, or this is attached to another app.
        """
        if self._app is not None or getattr(app, "portico", None) is not None:
            raise ConfigurationError("this Celery app, or this PorticoCelery, is attached already: attach once")
        self._app = app
        app.portico = self  # type: ignore[attr-defined]  # as Flask's extensions do
        # A default: an app that names a consumer of its own keeps it.
        app.add_defaults(lambda: {"worker_consumer": _CONSUMER})
        memory_transport.register()
        topology.install(app, self._job_queues)
        app.steps["worker"].add(worker_step(self._check_worker, self._make_sweep))
        signals.worker_process_shutdown.connect(self._on_process_shutdown, weak=False)
        for job_type in self._registry:
            if job_type.handler is not None:
                self._define_task(job_type.name)

    def register(
        self,
        handler: Any,
        *,
        queue: str | None = None,
        time_limit: float | None = None,
        ignore_result: bool = True,
    ) -> None:
        """Register a handler: any object with ``job_type``, ``handle`` and ``on_failure``.

        ``queue`` is where its jobs go that are created without one, ``time_limit`` is in seconds, and
        ``ignore_result=False`` writes Celery's result backend too, which canvas needs. Raises DuplicateHandler for a
        type that has one, ConfigurationError for what is no handler, or a name that a task of the app has.
        """
        job_type = self._registry.register(handler, queue=queue, time_limit=time_limit)
        self._ignore_result[job_type.name] = ignore_result
        if self._app is not None:
            self._define_task(job_type.name)

    def declare(self, job_type: str, *, queue: str | None = None) -> None:
        """Make a job type known by its name alone: enough to create its jobs."""
        self._registry.declare(job_type, queue=queue)

    def _define_task(self, name: str) -> None:
        if self.app.finalized:  # type: ignore[attr-defined]  # not in the type stubs
            check_task(self.app, name)
        define_task(self.app, name, self._execution, ignore_result=self._ignore_result[name])

    @property
    def app(self) -> Celery:
        """The Celery app. Raises ConfigurationError before init_app."""
        if self._app is None:
            raise ConfigurationError("PorticoCelery is not attached to a Celery app: call init_app(app) first")
        return self._app

    @cached_property
    def settings(self) -> PorticoSettings:
        """The portico_ settings, read at first use. Raises ConfigurationError."""
        return read_settings(self.app, store_url=self._store_url)

    @cached_property
    def queue(self) -> CeleryJobQueueAdapter:
        """The JobQueueAdapter."""
        return CeleryJobQueueAdapter(self._io)

    @cached_property
    def service(self) -> JobService:
        """The JobService, for asynchronous callers. Raises ConfigurationError for settings that can't work."""
        return JobService(self.queue, registry=self._registry, max_payload_bytes=self.settings.max_payload_bytes)

    @cached_property
    def sync(self) -> SyncJobService:
        """The same service, for synchronous callers."""
        return SyncJobService(self.service)

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until the broker has confirmed every knock given so far; False after ``timeout`` seconds."""
        return self._io.get().publisher.flush(timeout)

    def close(self) -> None:
        """Flush, and release this process's connections; the next use opens them again."""
        self._io.close()

    def check(self) -> None:
        """Raise ConfigurationError for wiring or settings that can't work. A worker does this when it starts."""
        self._make_store()
        for job_type in self._registry:
            check_task(self.app, job_type.name)

    def _check_worker(self, pool: Any) -> None:
        refuse_green_pool(pool)
        self.check()
        if self.settings.store_url == _MEMORY_URL and "prefork" in pool.__module__:
            raise ConfigurationError(
                "a job store in memory is one process's own, and the prefork pool runs jobs in others: "
                "use --pool=threads or --pool=solo, or another store"
            )

    @cached_property
    def _execution(self) -> JobExecution:
        return JobExecution(self._io, lambda: self.runner)

    @cached_property
    def runner(self) -> JobRunner:
        """What runs jobs with the registered handlers."""
        settings = self.settings
        return JobRunner(
            self._registry,
            retry_policy=self._retry_policy,
            default_time_limit=settings.time_limit,
            on_failure_time_limit=settings.on_failure_time_limit,
        )

    @cached_property
    def _retry_policy(self) -> RetryPolicy:
        settings = self.settings
        return RetryPolicy(
            base_delay=settings.retry_base_delay,
            max_delay=settings.retry_max_delay,
            jitter=settings.retry_jitter,
        )

    def _job_queues(self) -> list[str]:
        named = {job_type.queue_name for job_type in self._registry if job_type.queue_name}
        return [DEFAULT_QUEUE, *sorted(named)]

    def _make_io(self) -> ProcessIO:
        return ProcessIO(self.app, self._make_store(), self.settings)

    @cached_property
    def _memory_store(self) -> MemoryJobStore:
        return MemoryJobStore(result_ttl=self.settings.result_ttl)

    def _make_store(self) -> JobStore:
        url = self.settings.store_url
        if url == _MEMORY_URL:
            return self._memory_store
        if url.partition("://")[0] in ("redis", "rediss"):
            return _redis_store(url, self.settings.result_ttl)
        return SqlJobStore(url, result_ttl=self.settings.result_ttl)

    def _make_sweep(self) -> Sweep:
        return Sweep(self._io.get(), self._retry_policy)

    def _on_process_shutdown(self, **_kwargs: Any) -> None:
        self.close()


def _redis_store(url: str, result_ttl: float) -> JobStore:
    try:
        from portico_celery.adapters.job_store.redis_store import RedisJobStore
    except ModuleNotFoundError as error:
        raise ConfigurationError("a job store in Redis needs redis-py: pip install 'portico-celery[redis]'") from error
    return RedisJobStore(url, result_ttl=result_ttl)
