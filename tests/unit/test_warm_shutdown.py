"""What a process of a pool does when its worker is told to stop."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import billiard
from billiard.pool import Worker
from celery import Celery

from portico_celery.adapters.celery.process_io import ProcessIO
from portico_celery.adapters.celery.settings import PorticoSettings
from portico_celery.adapters.celery.warm_shutdown import WarmShutdown
from portico_celery.adapters.job_store.memory_store import MemoryJobStore
from tests.waiting import eventually

# Billiard's own patience is half a minute.
MOST_SECONDS = 15


def wait_at_exit(shutdown: WarmShutdown, io: ProcessIO, seconds: Any) -> None:
    """In a process of a pool: end after one task whose result nobody takes note of."""
    own_patience = billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT
    shutdown.watch(io)
    eventually(lambda: own_patience != billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT)
    began = time.monotonic()
    worker_class: Any = Worker  # the stubs know its public parts only
    assert not worker_class._ensure_messages_consumed(SimpleNamespace(on_ready_counter=billiard.Value("i")), 1)
    seconds.value = time.monotonic() - began


def test_a_process_whose_last_result_nobody_awaits_does_not_hold_up_the_shutdown() -> None:
    app = Celery("stopping", broker="memory://", set_as_current=False)
    io = ProcessIO(app, MemoryJobStore(), PorticoSettings(store_url="memory://"))
    shutdown = WarmShutdown(grace=60.0, stopped=threading.Event())
    seconds: Any = billiard.Value("d")
    shutdown.begin()
    process = billiard.Process(target=wait_at_exit, args=(shutdown, io, seconds))
    process.start()
    process.join(MOST_SECONDS + 10)
    assert process.exitcode == 0
    assert 0 < seconds.value < MOST_SECONDS
    io.close()
    app.close()
