"""The scheduler of ``celery beat``: the application's own entries as ever, and beside them Portico's schedules."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from celery import signals
from celery.beat import PersistentScheduler, Scheduler
from celery.utils.log import get_logger

from portico_celery import event_loop
from portico_celery.adapters.celery import beat_state
from portico_celery.exceptions import ConfigurationError
from portico_celery.scheduling.schedule_runner import ScheduleRunner
from portico_celery.scheduling.store_clock import REFRESH_SECONDS

logger = get_logger("celery.beat")

#: By this name an app that names no scheduler of its own gets this one.
NAME = "portico_celery.adapters.celery.beat_scheduler:PorticoScheduler"


class PorticoScheduler(PersistentScheduler):
    """Runs ``beat_schedule`` as Celery's own does, and the schedules of ``app.portico``.

    Its state of ``beat_schedule`` is written after each task that it sends. That of our schedules lives in the job
    store, so that any number of beats may run.
    """

    persistence: Any = beat_state.persistence  # Celery's own is the module shelve
    known_suffixes = (beat_state.SUFFIX,)

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        if not app.conf.beat_sync_every:
            kwargs.setdefault("sync_every_tasks", 1)
        self._runner: ScheduleRunner | None = None
        self._ours_at = 0.0
        super().__init__(app, *args, **kwargs)

    def setup_schedule(self) -> None:
        """Check the schedules, and open the state. Raises ConfigurationError."""
        portico = getattr(self.app, "portico", None)
        if portico is None:
            raise ConfigurationError("PorticoScheduler runs the schedules of app.portico: make a PorticoCelery(app)")
        self._runner = portico.schedule_runner()
        _refuse_store_of_another_process(portico)
        super().setup_schedule()

    @property
    def info(self) -> str:
        """What beat's banner says of the state: the file that it is kept in."""
        return f"{super().info}{beat_state.SUFFIX}"

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Run what is due; return in how many seconds to come again."""
        self._tick_ours()
        stock = super().tick(*args, **kwargs)
        # Sending a task may have taken its time.
        return max(0.0, min(stock, self._ours_at - time.monotonic()))

    def _tick_ours(self) -> None:
        # Not at each task that Celery sends: while the job store is away, that would hold up all of them.
        if self._runner is None or time.monotonic() < self._ours_at:
            return
        wait = event_loop.submit(self._runner.tick()).result()
        self._ours_at = time.monotonic() + min(wait, REFRESH_SECONDS)

    def _ensure_connected(self) -> Any:
        # Celery's own waits here until the broker is back. Jobs need no broker to be created.
        def tell(error: Exception, interval: float) -> None:
            logger.error("beat: Connection error: %s. Trying again in %s seconds...", error, interval)

        return self.connection.ensure_connection(
            tell, self.app.conf.broker_connection_max_retries, callback=self._tick_ours
        )


def _refuse_store_of_another_process(portico: Any) -> None:
    # In a thread, beat is embedded in the process that runs the jobs.
    alone = threading.current_thread() is threading.main_thread()
    if alone and portico.keeps_jobs_in_memory and portico.schedules.names():
        raise ConfigurationError(
            "a job store in memory is one process's own, and no worker would see the jobs that this beat creates: "
            "use another store, or a ScheduleTrigger in the process that runs them"
        )


class TickScheduler(Scheduler):
    """Runs nothing but ``tick_ours``, which returns in how many seconds it wants its next turn."""

    def __init__(self, app: Any, *args: Any, tick_ours: Callable[[], float], **kwargs: Any) -> None:
        self._tick_ours = tick_ours
        super().__init__(app, *args, **kwargs)

    def setup_schedule(self) -> None:
        """There is nothing to set up."""

    def tick(self, *_args: Any, **_kwargs: Any) -> float:
        """Run what is due."""
        return min(self._tick_ours(), self.max_interval or REFRESH_SECONDS, REFRESH_SECONDS)


@signals.beat_init.connect
def _warn_of_other_scheduler(sender: Any, **_kwargs: Any) -> None:
    """Say so where a beat starts that will leave an application's schedules alone."""
    portico = getattr(sender.app, "portico", None)
    if portico is None or isinstance(sender.scheduler, PorticoScheduler):
        return
    names = portico.schedules.names()
    if names:
        logger.warning(
            "This beat's scheduler runs none of Portico's %d schedules: start another beat with -S %s, or a "
            "ScheduleTrigger",
            len(names),
            NAME,
        )
