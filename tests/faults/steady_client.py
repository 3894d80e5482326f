"""A client that creates jobs at an even pace, whatever happens meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from tests.faults.sizes import chances
from tests.faults.system import System


class SteadyClient:
    """Threads that create jobs of ids that they know; what they were told, and how long they waited for it."""

    def __init__(self, system: System, name: str, *, per_second: float, threads: int, options: dict[str, Any]) -> None:
        self._system = system
        self._chance = chances(name)
        self._pause = threads / per_second
        self._options = options
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"client-{name}") for _ in range(threads)]
        self.attempted: list[str] = []
        self.errors: list[Exception] = []
        self.create_seconds: list[float] = []
        self.read_seconds: list[float] = []

    @property
    def seconds(self) -> list[float]:
        """How long each call took, whether it was answered or refused."""
        return [*self.create_seconds, *self.read_seconds]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, each thread with the call that it is at."""
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._enough.wait(self._pause):
            job_id = UUID(int=self._chance.getrandbits(128), version=4)
            self.attempted.append(str(job_id))
            self._call(self.create_seconds, lambda job_id=job_id: self._system.create(job_id=job_id, **self._options))  # type: ignore[misc]
            self._call(self.read_seconds, lambda job_id=job_id: self._system.portico.sync.get_job(job_id))  # type: ignore[misc]

    def _call(self, seconds: list[float], call: Callable[[], object]) -> None:
        began = time.perf_counter()
        try:
            call()
        except Exception as error:  # noqa: BLE001  # looked at when all is over
            self.errors.append(error)
        seconds.append(time.perf_counter() - began)


@contextmanager
def a_steady_client(
    system: System, name: str, *, per_second: float, threads: int = 1, **options: Any
) -> Iterator[SteadyClient]:
    """Yield a client that creates jobs of these ``options`` inside the block."""
    client = SteadyClient(system, name, per_second=per_second, threads=threads, options=options)
    client.start()
    try:
        yield client
    finally:
        client.stop()
