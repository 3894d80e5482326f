"""What was lost of a backlog is knocked for again, and no more than that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from kombu import Queue

from portico_celery import PorticoCelery
from portico_celery.adapters.celery.sweep import Sweep
from portico_celery.lifecycle import RetryPolicy
from tests.waiting import eventually

JOBS = 1_200  # more than one sweep takes at once


class Backlog:
    """Jobs in a queue that no worker consumes from, and a sweep that a test turns by hand."""

    def __init__(self, broker_url: str, queue_name: str) -> None:
        self.app = Celery("backlog", broker=broker_url)
        self.app.conf.portico_knock_seconds = 0.001
        self.portico = PorticoCelery(self.app, store="memory://")
        self.portico.declare("report.daily")
        self.queue_name = queue_name
        self._connection = self.app.connection_for_read()

    def create(self, count: int) -> None:
        jobs = [{"job_type": "report.daily", "payload": {}, "queue_name": self.queue_name}] * count
        self.portico.sync.create_jobs(jobs)
        assert self.portico.flush(20)

    def sweep_until_all_were_due_again(self) -> None:
        io = self.portico._io.get()
        sweep = Sweep(io, RetryPolicy())
        for _ in range(2 * JOBS // 500 + 2):
            io.writes.call(sweep.run).result(20)
            assert self.portico.flush(20)

    def depth(self) -> int:
        declared: Any = Queue(self.queue_name, channel=self._connection.default_channel).queue_declare(passive=True)
        return int(declared.message_count)

    def lose(self) -> None:
        Queue(self.queue_name, channel=self._connection.default_channel).purge()

    def close(self) -> None:
        Queue(self.queue_name, channel=self._connection.default_channel).delete()
        self._connection.close()
        self.portico.close()


@pytest.fixture(params=["amqp_url", "redis_url"])
def backlog(request: pytest.FixtureRequest, queue_name: str) -> Iterator[Backlog]:
    backlog = Backlog(request.getfixturevalue(request.param), queue_name)
    backlog.create(JOBS)
    yield backlog
    backlog.close()


def test_messages_that_were_lost_are_sent_again(backlog: Backlog) -> None:
    backlog.lose()

    backlog.sweep_until_all_were_due_again()

    eventually(
        lambda: JOBS <= backlog.depth() <= JOBS * 1.01, describe=lambda: f"{JOBS} messages, not {backlog.depth()}"
    )


def test_a_lost_message_is_sent_again_though_others_wait_in_its_queue(amqp_url: str, queue_name: str) -> None:
    backlog = Backlog(amqp_url, queue_name)
    backlog.create(1)
    backlog.lose()
    for _ in range(3):
        backlog.app.send_task("somebody.elses", queue=queue_name)
    eventually(lambda: backlog.depth() == 3)

    backlog.sweep_until_all_were_due_again()

    assert backlog.depth() > 3
    backlog.close()
