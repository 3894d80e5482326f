"""The one place that wires ports, kits and adapters: PorticoCelery, which an application holds."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from celery import Celery, signals
from kombu.exceptions import OperationalError

from portico_celery.adapters.celery import beat_scheduler, memory_transport, origin, topology
from portico_celery.adapters.celery.cron_schedule import CronSchedule
from portico_celery.adapters.celery.job_execution import JobExecution
from portico_celery.adapters.celery.job_task import check_task, define_task
from portico_celery.adapters.celery.process_io import ProcessIO, ProcessIOProvider
from portico_celery.adapters.celery.pull.pull_mode import PullMode
from portico_celery.adapters.celery.revoking import revoke_step
from portico_celery.adapters.celery.settings import (
    NEWER_SCHEMA,
    PorticoSettings,
    check_result_ttl,
    hide_store_url,
    read_settings,
)
from portico_celery.adapters.celery.start_checks import refuse_green_pool, refuse_pickle, unsafe_settings
from portico_celery.adapters.celery.sweep import Sweep
from portico_celery.adapters.celery.unknown_jobs import UnknownJobs
from portico_celery.adapters.celery.warm_shutdown import WarmShutdown
from portico_celery.adapters.celery.worker_step import worker_step
from portico_celery.adapters.job_queue.celery_queue import CeleryJobQueueAdapter
from portico_celery.adapters.job_store.memory_store import MemoryJobStore
from portico_celery.adapters.job_store.store_urls import MEMORY_URL, open_store
from portico_celery.adapters.job_trigger.schedule_trigger.cron_fire_times import read_fire_times
from portico_celery.exceptions import ConfigurationError
from portico_celery.kits.job import HandlerRegistry, JobRunner, JobService, SyncJobService, WorkerManager
from portico_celery.kits.job.job_service import DEFAULT_QUEUE
from portico_celery.lifecycle import RetryPolicy
from portico_celery.ports.job_store import JobStore
from portico_celery.ports.schedule import ScheduleConfig
from portico_celery.scheduling.fire_times import FireTimes
from portico_celery.scheduling.schedule_book import ScheduleBook, check_all
from portico_celery.scheduling.schedule_file import add_configured
from portico_celery.scheduling.schedule_runner import ScheduleRunner
from portico_celery.scheduling.schedule_service import ScheduleService
from portico_celery.utils.logging import get_logger

__all__ = ["CronSchedule", "PorticoCelery", "ScheduleConfig"]

logger = get_logger(__name__)

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
        self._schedules = ScheduleBook(read_fire_times)
        self._io = ProcessIOProvider(self._make_io, prepare=self.check)
        self._shutdown: WarmShutdown | None = None
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
        # Defaults: an app that names a consumer or a scheduler of its own keeps it.
        app.add_defaults(lambda: {"worker_consumer": _CONSUMER, "beat_scheduler": beat_scheduler.NAME})
        hide_store_url()
        memory_transport.register()
        topology.install(app, self._job_queues)
        origin.install(app)
        app.steps["worker"].add(worker_step(self._check_worker, self._make_sweep, self._arm_shutdown))
        app.steps["consumer"].add(revoke_step(self._io))
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

    def schedule(self, config: ScheduleConfig, *, fire_times: FireTimes | None = None) -> None:
        """Have beat make jobs at the times of a cron line, or at ``fire_times`` of your own.

        Raises InvalidSchedule, ConfigurationError for a name that is taken, UnknownJobType for a job type that is
        neither registered nor declared yet, ValidationError for jobs that can't be made.
        """
        # The settings may not be there yet, and with them the limit of a payload: the beat, and lint, keep to it.
        unlimited = JobService(self.queue, registry=self._registry, max_payload_bytes=sys.maxsize)
        self._schedules.add(config, fire_times=fire_times, check_job=unlimited.check_job)

    def _define_task(self, name: str) -> None:
        if self.app.finalized:  # type: ignore[attr-defined]  # not in the type stubs
            check_task(self.app, name)
        queue, ignore_result = self._registry.get(name).queue_name, self._ignore_result[name]
        define_task(self.app, name, self._execution, ignore_result=ignore_result, queue=queue)

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

    @property
    def keeps_jobs_in_memory(self) -> bool:
        """Whether jobs live in this process alone, as do schedules. Raises ConfigurationError."""
        return self.settings.store_url == MEMORY_URL

    @cached_property
    def queue(self) -> CeleryJobQueueAdapter:
        """The JobQueueAdapter."""
        return CeleryJobQueueAdapter(self._io, self._make_pull_mode)

    @cached_property
    def service(self) -> JobService:
        """The JobService, for asynchronous callers. Raises ConfigurationError for settings that can't work."""
        return JobService(self.queue, registry=self._registry, max_payload_bytes=self.settings.max_payload_bytes)

    @cached_property
    def sync(self) -> SyncJobService:
        """The same service, for synchronous callers."""
        return SyncJobService(self.service)

    def worker_manager(self, *, queues: Sequence[str] | None = None, concurrency: int = 10) -> WorkerManager:
        """Make a WorkerManager with the registered handlers and this app's settings.

        Without ``queues`` it takes from the queues that a Celery worker would: the default one and those of the
        handlers. Raises ConfigurationError.
        """
        settings = self.settings
        return WorkerManager(
            self.queue,
            self._registry,
            concurrency,
            self._job_queues() if queues is None else queues,
            retry_policy=self._retry_policy,
            time_limit=settings.time_limit,
            on_failure_time_limit=settings.on_failure_time_limit,
            unknown_job_type_seconds=settings.unknown_job_type_seconds,
        )

    @cached_property
    def schedules(self) -> ScheduleService:
        """The schedules, those from configuration included: list, pause, run now.

        Raises ConfigurationError, and ValidationError where the jobs of one can't be made.
        """
        check_all(self._all_schedules, self.service.check_job)
        return ScheduleService(self._all_schedules, self.service, self.service)

    def schedule_runner(self) -> ScheduleRunner:
        """Make what beat runs, once all schedules are known to be sound. Raises ConfigurationError."""
        self.check()
        if self._all_schedules:
            check_result_ttl(self.settings.result_ttl)
        return ScheduleRunner(self._all_schedules, self.service, self.service)

    @cached_property
    def _all_schedules(self) -> ScheduleBook:
        return add_configured(self._schedules, self.settings.schedules, check_job=self.service.check_job)

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until the broker has confirmed every knock given so far; False after ``timeout`` seconds."""
        return self._io.get().publisher.flush(timeout)

    def broker_answers(self) -> bool:
        """Try to connect to the broker, for at most about a second."""
        try:
            with self.app.connection_for_write(connect_timeout=1.0) as connection:
                connection.ensure_connection(max_retries=1, timeout=1)
        except (OperationalError, OSError) as error:
            logger.warning("broker_does_not_answer", error=type(error).__name__)
            return False
        return True

    def close(self) -> None:
        """Flush, and release this process's connections; the next use opens them again.

        Raises StillInUse while jobs, or a worker, run in this process.
        """
        self._io.close()

    def check(self) -> None:
        """Raise ConfigurationError for wiring or settings that can't work. A worker does this when it starts."""
        self._make_store()
        for job_type in self._registry:
            check_task(self.app, job_type.name)

    def _check_worker(self, pool: Any) -> None:
        self.check()
        # A beat may be about to run beside it (-B), whose end nobody would see.
        check_all(self._all_schedules, self.service.check_job)
        allowed = self.settings.allow
        refuse_green_pool(pool, allowed)
        refuse_pickle(self.app, allowed)
        for danger in unsafe_settings(self.app):
            logger.warning("unsafe_setting", danger=danger)
        if self.keeps_jobs_in_memory and "prefork" in pool.__module__:
            raise ConfigurationError(
                "a job store in memory is one process's own, and the prefork pool runs jobs in others: "
                "use --pool=threads or --pool=solo, or another store"
            )

    @cached_property
    def _execution(self) -> JobExecution:
        return JobExecution(
            self._io, lambda: self.runner, retry_policy=lambda: self._retry_policy, shutdown=lambda: self._shutdown
        )

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
        settings = self.settings
        if self.keeps_jobs_in_memory:
            return self._memory_store
        return open_store(
            settings.store_url, result_ttl=settings.result_ttl, allow_newer_schema=NEWER_SCHEMA in settings.allow
        )

    def _make_pull_mode(self, io: ProcessIO) -> PullMode:
        sweep = Sweep(io, self._retry_policy)
        return PullMode(self.app, io, sweep, self.unknown_jobs, is_declared=self._registry.__contains__)

    def _make_sweep(self) -> Sweep:
        return Sweep(self._io.get(), self._retry_policy)

    def _arm_shutdown(self, stopped: threading.Event) -> WarmShutdown | None:
        grace = self.settings.shutdown_grace
        self._shutdown = None if grace is None else WarmShutdown(grace=grace, stopped=stopped)
        return self._shutdown

    @cached_property
    def unknown_jobs(self) -> UnknownJobs:
        """What becomes of jobs whose type a worker does not know; its consumer asks."""
        return UnknownJobs(self._io)

    def _on_process_shutdown(self, **_kwargs: Any) -> None:
        self._io.close(by_force=True)
