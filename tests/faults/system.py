"""The system under test: a broker, a store, worker processes, and this process as its client."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from celery import Celery
from kombu import Connection

from portico_celery import PorticoCelery
from portico_celery.exceptions import StoreUnavailable
from portico_celery.ports.job import Job
from portico_celery.ports.job_reader import JobFilter, JobRecord
from tests.faults.ledger import Ledger, accept
from tests.faults.sizes import TIMERS
from tests.faults.workers import Workers
from tests.waiting import eventually

JOB_TYPES = ("fault.work", "fault.die", "fault.block")
PLAIN_JOB: Mapping[str, Any] = {"job_type": "fault.work", "payload": {}}


@dataclass(kw_only=True)
class System:
    """What the tests of faults do with the system."""

    directory: Path
    broker_url: str
    store_url: str
    queue_name: str
    portico: PorticoCelery
    ledger: Ledger
    workers: Workers

    @property
    def control(self) -> Path:
        """Where the control has its ledgers."""
        path = self.directory / "control"
        path.mkdir(exist_ok=True)
        return path

    @property
    def control_queue(self) -> str:
        """The queue of the control."""
        return f"{self.queue_name}-control"

    def create(self, job_type: str = "fault.work", payload: Mapping[str, Any] | None = None, **options: Any) -> UUID:
        """Create a job, and note that it was accepted."""
        job_id = self.portico.sync.create_job(job_type, dict(payload or {}), **options).id
        accept(self.directory, [job_id])
        return job_id

    def create_all(self, jobs: Iterable[Mapping[str, Any]]) -> list[UUID]:
        """Create many jobs in one call, and note that they were accepted."""
        created = [job.id for job in self.portico.sync.create_jobs({**PLAIN_JOB, **job} for job in jobs)]
        accept(self.directory, created)
        return created

    def record(self, job_id: object) -> JobRecord:
        """Return what the store knows of a job, which must be there."""
        record = self.portico.sync.get_record(str(job_id))
        assert record is not None, f"there is no job {job_id}"
        return record

    def jobs(self) -> dict[str, Job]:
        """Return every job in the store."""
        jobs: dict[str, Job] = {}
        cursor: str | None = None
        while True:
            page = self.portico.sync.list_jobs(JobFilter(queue_name=self.queue_name, limit=1000, cursor=cursor))
            jobs.update((str(job.id), job) for job in page.jobs)
            cursor = page.next_cursor
            if cursor is None:
                return jobs

    def wait_until_all_ended(self, timeout: float) -> None:
        """Return when no job of the store waits or runs."""

        def ended() -> bool:
            try:
                stats = self.portico.sync.get_queue_stats(self.queue_name)
            except StoreUnavailable:  # of a fault that is passing: the time-out is the judge
                return False
            return stats.pending_count + stats.running_count == 0

        eventually(ended, timeout, lambda: f"the end of all jobs: {self.shown()}")

    def shown(self) -> str:
        """Tell how things stand."""
        try:
            stats: object = self.portico.sync.get_queue_stats(self.queue_name)
        except StoreUnavailable as error:
            stats = error
        return f"{stats}\n{self.workers.shown()}"

    def waiting_messages(self, queue_name: str | None = None) -> int:
        """Count the messages that wait in the queue; 0 where there is no queue."""
        with Connection(self.broker_url) as connection:
            channel: Any = connection.channel()
            try:
                return int(channel.queue_declare(queue_name or self.queue_name, passive=True).message_count)
            except connection.channel_errors:
                return 0


@contextmanager
def a_system(broker_url: str, store_url: str, directory: Path, **settings: Any) -> Iterator[System]:
    """Yield a system; ``settings`` are portico_ settings without the prefix."""
    queue_name = f"portico-fault-{uuid4().hex[:12]}"
    conf = {f"portico_{name}": value for name, value in {**TIMERS, **settings}.items()}
    conf["broker_connection_retry_on_startup"] = True
    app = Celery("client", broker=broker_url, set_as_current=False)
    app.conf.update(conf)
    portico = PorticoCelery(app, store=store_url)
    for job_type in JOB_TYPES:
        portico.declare(job_type, queue=queue_name)
    environment = {
        "FAULT_DIRECTORY": str(directory),
        "FAULT_BROKER": broker_url,
        "FAULT_STORE": store_url,
        "FAULT_QUEUE": queue_name,
        "FAULT_SETTINGS": json.dumps(conf),
    }
    workers = Workers(directory=directory, environment=environment, queue_name=queue_name)
    try:
        yield System(
            directory=directory,
            broker_url=broker_url,
            store_url=store_url,
            queue_name=queue_name,
            portico=portico,
            ledger=Ledger(directory),
            workers=workers,
        )
    finally:
        workers.end()
        portico.close()
        app.close()
