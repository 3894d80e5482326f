"""What a worker of ours does beside Celery's own: it refuses what can't work, and it sweeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import bootsteps

from portico_celery.adapters.celery.sweep import Sweep
from portico_celery.exceptions import ConfigurationError

_GREEN_POOLS = ("gevent", "eventlet")


def worker_step(check: Callable[[Any], None], make_sweep: Callable[[], Sweep]) -> type[bootsteps.StartStopStep]:
    """Make the boot step of one app: ``check`` sees a worker's pool when it is built, the sweep while it runs."""

    class PorticoStep(bootsteps.StartStopStep):
        """Checks the wiring at start, then sweeps in the worker's main process."""

        # After the pool, so that its first processes are forked before this process has threads.
        requires = ("celery.worker.components:Pool",)

        def __init__(self, worker: Any, **kwargs: Any) -> None:
            super().__init__(worker, **kwargs)
            check(worker.pool_cls)
            self._sweep: Sweep | None = None

        def start(self, worker: Any) -> None:  # noqa: ARG002  # Celery's signature
            self._sweep = make_sweep()
            self._sweep.start()

        def stop(self, worker: Any) -> None:  # noqa: ARG002  # Celery's signature
            if self._sweep is not None:
                self._sweep.stop()

    return PorticoStep


def refuse_green_pool(pool: Any) -> None:
    """Raise ConfigurationError for a pool of greenlets."""
    module = str(getattr(pool, "__module__", pool))
    for name in _GREEN_POOLS:
        if name in module:
            raise ConfigurationError(
                f"the {name} pool patches the sockets and locks under asyncio, on which handlers run, so that jobs "
                "stall: use --pool=threads (or prefork, or solo), where one process runs many handlers at once"
            )
