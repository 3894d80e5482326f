"""What a worker of ours does beside Celery's own: it refuses what can't work, it sweeps, and it gives jobs back."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Any

from celery import bootsteps, signals

from portico_celery.adapters.celery.sweep import Sweep
from portico_celery.adapters.celery.warm_shutdown import WarmShutdown


def worker_step(
    check: Callable[[Any], None], make_sweep: Callable[[], Sweep], arm_shutdown: Callable[[Event], WarmShutdown | None]
) -> type[bootsteps.StartStopStep]:
    """Make the boot step of one app.

    ``check`` sees a worker's pool when it is built, before the pool forks its processes. The sweep runs while the
    worker does. ``arm_shutdown`` is given the event that is set when the worker has shut down.
    """

    class PorticoStep(bootsteps.StartStopStep):
        """Checks the wiring at start, sweeps in the worker's main process, and tells all of them of the end."""

        # After the pool, so that its first processes are forked before this process has threads.
        requires = ("celery.worker.components:Pool",)

        def __init__(self, worker: Any, **kwargs: Any) -> None:
            super().__init__(worker, **kwargs)
            check(worker.pool_cls)
            self._sweep: Sweep | None = None
            self._shutdown = arm_shutdown(worker.blueprint.shutdown_complete)
            # The solo pool's job holds the thread that would come to close(): only a signal handler gets through.
            signals.worker_shutting_down.connect(self.close)

        def start(self, worker: Any) -> None:  # noqa: ARG002  # Celery's signature
            self._sweep = make_sweep()
            self._sweep.start()

        def close(self, *_args: Any, **_kwargs: Any) -> None:
            if self._shutdown is not None:
                self._shutdown.begin()

        def stop(self, worker: Any) -> None:  # noqa: ARG002  # Celery's signature
            if self._sweep is not None:
                self._sweep.stop()

        def terminate(self, worker: Any) -> None:
            # A cold shutdown, of a worker whose process may go on.
            self.stop(worker)

    return PorticoStep
