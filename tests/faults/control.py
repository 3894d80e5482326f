"""The control: the same fault on plain Celery, beside ours on the same broker."""

from __future__ import annotations

from celery import Celery

from tests.faults.ledger import Ledger, Line
from tests.faults.plain_settings import SETTINGS
from tests.faults.system import System
from tests.faults.workers import PLAIN_APP, Worker
from tests.waiting import eventually

SENTINEL_SECONDS = 40.0


class Control:
    """Plain Celery's client, worker and ledger."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._ledger = Ledger(system.control)

    def send(self, task: str, count: int = 1) -> list[str]:
        """Send tasks; each is confirmed by the broker."""
        app = Celery("control", broker=self._system.broker_url, set_as_current=False)
        app.conf.update(SETTINGS)
        try:
            return [str(app.send_task(task, queue=self._system.control_queue).id) for _ in range(count)]
        finally:
            app.close()

    def start(self, concurrency: int = 2) -> Worker:
        """Start its worker."""
        return self._system.workers.start(
            "prefork", concurrency, app=PLAIN_APP, queues=self._system.control_queue, ready=False
        )

    @property
    def waiting(self) -> int:
        """Count its messages that wait."""
        return self._system.waiting_messages(self._system.control_queue)

    @property
    def starts(self) -> list[Line]:
        """Every start of a task."""
        return self._ledger.starts

    def started_in_the_end(self) -> int:
        """Run a worker until a task has ended that was sent after all others; count the others that have started."""
        self.start(concurrency=1)
        [sentinel] = self.send("plain.work")
        eventually(lambda: sentinel in {line.job_id for line in self._ledger.ends}, SENTINEL_SECONDS, "the control")
        return len({line.job_id for line in self.starts} - {sentinel})
