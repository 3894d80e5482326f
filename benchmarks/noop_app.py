"""Two Celery apps that do nothing, N times: one plain, one with portico_celery. Each says how long it took.

The time runs from the first start to the last one, in the worker itself.
"""

from __future__ import annotations

import os
import threading
import time

from celery import Celery

from portico_celery import PorticoCelery
from portico_celery.ports.job import Job, JobResult

BROKER = os.environ.get("BENCH_BROKER_URL", "amqp://guest:guest@127.0.0.1:5672//")
# Of one run of the benchmark, which begins with nothing in them.
RUN = os.environ.get("BENCH_RUN", "by-hand")
PLAIN_QUEUE = f"portico-bench-plain-{RUN}"
JOB_QUEUE = f"portico-bench-jobs-{RUN}"


class Countdown:
    """Prints one line when as many starts were counted as were expected."""

    def __init__(self, expected: int) -> None:
        self._left = expected
        self._expected = expected
        self._first = 0.0
        self._lock = threading.Lock()

    def start(self) -> None:
        """Count a start."""
        with self._lock:
            if self._left == self._expected:
                self._first = time.perf_counter()
            self._left -= 1
            if self._left == 0:
                elapsed = time.perf_counter() - self._first
                os.write(1, f"RATE {self._expected / elapsed:.1f}\n".encode())


countdown = Countdown(int(os.environ.get("BENCH_JOBS", "1")))

plain = Celery("plain", broker=BROKER)
# What Celery's documentation recommends for tasks that must not be lost, with a record of what came of each, as ours.
plain.conf.update(
    task_acks_late=True,
    result_backend=os.environ.get("BENCH_RESULT_URL", "redis://127.0.0.1:6379/0"),
    result_backend_transport_options={"global_keyprefix": "portico-bench-"},
    result_expires=300,
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
)


@plain.task(name="bench.plain")
def noop(**_payload: object) -> None:
    """Do nothing."""
    countdown.start()


jobs = Celery("jobs", broker=BROKER)
jobs.conf.update(broker_connection_retry_on_startup=True)
portico = PorticoCelery(jobs, store=os.environ.get("BENCH_STORE_URL", "sqlite:///bench.db"))


class Noop:
    """Does nothing."""

    job_type = "bench.job"

    async def handle(self, job: Job) -> JobResult:  # noqa: ARG002  # the port's signature
        """Count."""
        countdown.start()
        return JobResult(success=True)

    async def on_failure(self, job: Job, error: Exception) -> None:
        """Nothing fails here."""


portico.register(Noop(), queue=JOB_QUEUE)
