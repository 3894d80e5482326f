"""What our consumer does otherwise than Celery's, without a broker."""

from __future__ import annotations

import threading
from collections import deque
from types import SimpleNamespace
from typing import Any

from celery import Celery
from kombu.common import QoS

from portico_celery.adapters.celery.consumer import PorticoConsumer


def reconnected_consumer(told: list[str]) -> Any:
    """A consumer of a pool with four threads, whose prefetch count was reduced when it reconnected."""

    def tell_the_broker(prefetch_count: int) -> None:
        told.append(f"{prefetch_count} by {threading.current_thread().name}")

    consumer: Any = PorticoConsumer.__new__(PorticoConsumer)
    consumer.app = Celery(set_as_current=False)
    consumer.hub = None
    consumer.pool = SimpleNamespace(num_processes=4)
    consumer.prefetch_multiplier = 1
    consumer.qos = QoS(tell_the_broker, 2)
    consumer._pending_operations = deque()
    consumer._maximum_prefetch_restored = False
    return consumer


def test_the_prefetch_count_is_restored_by_the_thread_that_reads_from_the_broker() -> None:
    told: list[str] = []
    consumer = reconnected_consumer(told)
    acknowledging = threading.Thread(target=consumer._restore_prefetch_count_after_connection_restart, args=(None,))

    acknowledging.start()
    acknowledging.join()
    assert told == []

    consumer.perform_pending_operations()
    assert told == [f"3 by {threading.current_thread().name}"]
