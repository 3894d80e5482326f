"""What Celery's documentation recommends to plain Celery against losses."""

from __future__ import annotations

from typing import Any

SETTINGS: dict[str, Any] = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_ignore_result": True,
    "worker_prefetch_multiplier": 1,
    "broker_transport_options": {"confirm_publish": True},
    "broker_connection_retry_on_startup": True,
}
