"""Of several brokers that ``broker_url`` names, one is alive: whoever needs a broker finds it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest
from celery import Celery
from kombu import Connection, Queue

from portico_celery import PorticoCelery
from portico_celery.adapters.celery.parking import PARKED_QUEUE
from tests.services import free_port
from tests.waiting import eventually

SECONDS = 20.0


@pytest.mark.parametrize("dead", [1, 2, 3])
def test_jobs_are_published_taken_and_parked_by_the_last_broker_of_the_list(
    dead: int, amqp_url: str, tmp_path: Path, queue_name: str
) -> None:
    urls = [*(f"amqp://guest:guest@127.0.0.1:{free_port()}//" for _ in range(dead)), amqp_url]
    app = Celery("failover", broker=";".join(urls), set_as_current=False)
    portico = PorticoCelery(app, store=f"sqlite:///{tmp_path / 'jobs.db'}")
    portico.declare("email.send")
    case = uuid4().hex
    with Connection(amqp_url) as connection:
        parked = Queue(PARKED_QUEUE, channel=connection.default_channel)
        job = portico.sync.create_job("email.send", {}, queue_name)
        assert portico.flush(SECONDS)
        taken = asyncio.run(portico.queue.dequeue(queue_name, SECONDS))
        assert taken is not None
        assert taken.id == job.id

        connection.Producer().publish(b"{", routing_key=queue_name, headers={"test-case": case})

        def is_parked() -> bool:
            assert asyncio.run(portico.queue.dequeue(queue_name, 0.2)) is None
            while (message := parked.get()) is not None:
                if message.headers.get("test-case") == case:
                    message.ack()
                    return True
            return False

        eventually(is_parked, SECONDS)
    portico.close()
    app.close()
