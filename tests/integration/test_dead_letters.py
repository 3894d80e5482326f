"""Dead letters of a real worker are requeued by an admin's process, which is killed meanwhile, and by the next."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
from celery import Celery
from kombu import Connection, Exchange, Queue

from portico_celery import PorticoCelery
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_reader import JobFilter
from tests.integration.small_app import SmallApp
from tests.waiting import eventually

SECONDS = 60.0
JOBS = 60

APPLICATION = """
from pathlib import Path
from celery import Celery
from portico_celery import PorticoCelery
from portico_celery.ports.job import JobResult
from portico_celery.ports.job_reader import JobFilter

HERE = Path(__file__).parent

class SendEmail:
    job_type = "email.send"

    async def handle(self, job):
        if not (HERE / "repaired").exists():
            raise ConnectionError("the mail server hung up")
        return JobResult(success=True)

    async def on_failure(self, job, error): ...

app = Celery("shop", broker={broker!r})
app.conf.update(portico_knock_seconds=2.0)
portico = PorticoCelery(app, store=f"sqlite:///{{HERE / 'jobs.db'}}")
portico.register(SendEmail(), queue={queue!r})

if __name__ == "__main__":
    print(portico.sync.requeue_jobs(JobFilter(queue_name={queue!r}, error_contains="hung up"), per_second=10))
"""


@pytest.fixture
def queue_name(amqp_url: str) -> Iterator[str]:
    name = f"portico-test-{uuid4().hex}"
    yield name
    with Connection(amqp_url) as connection:
        Queue(name, channel=connection.default_channel).delete()
        Exchange(name, channel=connection.default_channel).delete()


@pytest.fixture
def portico(amqp_url: str, tmp_path: Path) -> Iterator[PorticoCelery]:
    portico = PorticoCelery(
        Celery("client", broker=amqp_url, set_as_current=False), store=f"sqlite:///{tmp_path / 'jobs.db'}"
    )
    portico.declare("email.send")
    with closing(portico):
        yield portico


def test_an_admin_that_is_killed_loses_no_job_and_the_next_requeues_the_rest(
    amqp_url: str, queue_name: str, portico: PorticoCelery, tmp_path: Path
) -> None:
    def dead() -> int:
        return portico.sync.get_queue_stats(queue_name).dead_letter_count

    small_app = SmallApp(tmp_path, APPLICATION.format(broker=amqp_url, queue=queue_name))
    with small_app.worker("-P", "threads", "-c", "4", "-Q", queue_name) as worker:
        new = [
            {"job_type": "email.send", "payload": {}, "queue_name": queue_name, "max_retries": 0} for _ in range(JOBS)
        ]
        jobs = portico.sync.create_jobs(new)
        eventually(lambda: dead() == JOBS, SECONDS, lambda: worker.log_tail)
        (tmp_path / "repaired").touch()

        admin = subprocess.Popen([sys.executable, f"{small_app.module}.py"], cwd=tmp_path, stdout=subprocess.PIPE)
        with admin:
            eventually(lambda: dead() < JOBS, SECONDS, "a job that was requeued")
            admin.send_signal(signal.SIGKILL)
            assert admin.wait(SECONDS) == -signal.SIGKILL

        left = dead()
        assert 0 < left < JOBS
        assert portico.sync.requeue_jobs(JobFilter(queue_name=queue_name)) == left
        eventually(
            lambda: portico.sync.get_queue_stats(queue_name).completed_count == JOBS, SECONDS, lambda: worker.log_tail
        )

    for job in jobs:
        record = portico.sync.get_record(job.id)
        assert record is not None
        assert record.job.status is JobStatus.COMPLETED
        assert [attempt.error for attempt in record.attempts] == ["ConnectionError: the mail server hung up", None]
