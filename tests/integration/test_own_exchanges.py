"""Plain calls that an application sends through an exchange of its own, by a routing key that is no queue's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from kombu import Connection, Exchange, Queue

from portico_celery import PorticoCelery
from portico_celery.lifecycle import TERMINAL
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_reader import JobRecord
from tests.integration.small_app import SmallApp
from tests.waiting import eventually

SECONDS = 30.0

SOURCE = """
from celery import Celery
from kombu import Exchange, Queue
from portico_celery import PorticoCelery
from portico_celery.ports.job import JobResult

class Feed:
    job_type = "feed.import"
    async def handle(self, job):
        if job.retry_count == 0:
            raise RuntimeError("the first time")
        return JobResult(success=True)
    async def on_failure(self, job, error): ...

exchange = Exchange({name!r}, type="topic")
app = Celery("feeds", broker={broker!r})
app.conf.update(
    task_default_queue="{name}-tasks",
    task_queues=[
        Queue("{name}-tasks", exchange, routing_key="task.#"),
        Queue("{name}-feeds", exchange, routing_key="feed.#"),
    ],
    portico_retry_base_delay=0.1,
    portico_sweep_seconds=0.1,
)
portico = PorticoCelery(app, store={store!r})
portico.register(Feed())
"""


@pytest.fixture(params=["rabbitmq", "redis"])
def broker(request: pytest.FixtureRequest) -> str:
    if request.param == "rabbitmq":
        return str(request.getfixturevalue("amqp_url"))
    return str(request.getfixturevalue("private_redis")().url)


@pytest.fixture
def name(broker: str) -> Iterator[str]:
    """The exchange, and how its queues' names begin; they are deleted afterwards."""
    name = f"portico-test-{uuid4().hex}"
    yield name
    with Connection(broker) as connection:
        for queue in ("tasks", "feeds"):
            Queue(f"{name}-{queue}", channel=connection.default_channel).delete()
        if broker.startswith("amqp"):
            Exchange(name, channel=connection.default_channel).delete()


def test_the_retry_of_a_call_goes_to_the_queue_that_the_call_came_from(broker: str, name: str, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'jobs.db'}"
    source = SOURCE.format(name=name, broker=broker, store=store)
    client = Celery("client", broker=broker, set_as_current=False)
    # Where the caller has nothing but the store.
    reader_app = Celery("reader", broker="portico-memory://", set_as_current=False)
    options = ("-P", "threads", "-c", "1", "-Q", f"{name}-tasks,{name}-feeds")
    with (
        closing(PorticoCelery(reader_app, store=store)) as reader,
        SmallApp(tmp_path, source).worker(*options) as worker,
        closing(client),
    ):
        exchange: Any = Exchange(name, type="topic")  # a name, says the stub
        sent = client.send_task("feed.import", exchange=exchange, routing_key="feed.rss", declare=[exchange])

        def ended() -> JobRecord | None:
            record = reader.sync.get_record(str(sent.id))
            return record if record is not None and record.job.status in TERMINAL else None

        record = eventually(ended, SECONDS, lambda: f"{reader.sync.get_record(str(sent.id))}\n{worker.log_tail}")
    assert record is not None
    assert (record.job.status, record.job.retry_count) == (JobStatus.COMPLETED, 1)
    assert record.job.queue_name == f"{name}-feeds"
