"""Whether the application lives, whether it can do its work, and what its triggers have done."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, jsonify
from flask.typing import ResponseReturnValue

from portico_celery import event_loop
from portico_celery.adapters.job_trigger.webhook_trigger import WebhookTrigger
from portico_celery.exceptions import NotSupported, StoreError
from portico_celery.ports.job_reader import JobReader
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

#: A broker is asked anew after so many seconds: asking it is a connection.
_BROKER_SECONDS = 5.0


def health_blueprint(trigger: WebhookTrigger, broker_answers: Callable[[], bool] | None) -> Blueprint:
    """Build ``/health/live``, ``/health/ready`` and ``/health/triggers``."""
    broker = _Broker(broker_answers)
    blueprint = Blueprint("health", __name__, url_prefix="/health")

    def live() -> ResponseReturnValue:
        return jsonify(status="live")

    def ready() -> ResponseReturnValue:
        store, oldest_due = _store_answers(trigger)
        # Jobs are accepted while the broker is away, so it alone does not make us unready.
        good = store is not False and trigger.is_running
        document: dict[str, Any] = {
            "status": "ready" if good else "not ready",
            "running": trigger.is_running,
            "store": store,
            "oldest_due_seconds": oldest_due,
            "broker": broker.answers(),
        }
        status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
        return jsonify(document), status, {} if good else {"Retry-After": "5"}

    def triggers() -> ResponseReturnValue:
        health = asdict(trigger.health())
        last = health["last_job_created"]
        return jsonify(webhook={**health, "last_job_created": last and last.isoformat()})

    def not_stored(response: Response) -> Response:
        response.cache_control.no_store = True
        return response

    blueprint.after_request(not_stored)
    for view in (live, ready, triggers):
        blueprint.add_url_rule(f"/{view.__name__}", view_func=view)
    return blueprint


def _store_answers(trigger: WebhookTrigger) -> tuple[bool | None, float | None]:
    """Return whether the store answers, and for how long the job that is due longest waits; None: nobody can say."""
    creator = trigger.job_creator
    if not isinstance(creator, JobReader):
        return None, None
    try:
        return True, event_loop.wait(_oldest_due(creator, trigger), needs_event_loop=_needs_event_loop(creator))
    except StoreError as error:
        logger.warning("store_not_ready", error=str(error))
        return False, None


def _needs_event_loop(creator: JobReader) -> bool:
    return getattr(creator, "needs_event_loop", True)


async def _oldest_due(reader: JobReader, trigger: WebhookTrigger) -> float | None:
    try:
        return round(await reader.get_oldest_due_seconds(), 3)
    except NotSupported:
        # A queue by Portico's own port alone; that it answers can be seen by what every queue offers.
        await reader.get_queue_stats(trigger.config.default_queue)
        return None


class _Broker:
    """Remembers for a while whether the broker answered."""

    def __init__(self, ask: Callable[[], bool] | None) -> None:
        self._ask = ask
        self._answered: bool | None = None
        self._asked_at = -_BROKER_SECONDS

    def answers(self) -> bool | None:
        """Return None where nobody can say."""
        if self._ask is not None and time.monotonic() - self._asked_at >= _BROKER_SECONDS:
            self._asked_at = time.monotonic()
            self._answered = self._ask()
        return self._answered
