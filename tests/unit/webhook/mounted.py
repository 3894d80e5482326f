"""A running trigger in a Flask application, over a job service in memory, and its senders' signatures."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portico_celery.adapters.job_queue.memory_queue import MemoryJobQueueAdapter
from portico_celery.adapters.job_trigger.webhook_trigger import ApiKey, WebhookConfig, WebhookTrigger
from portico_celery.adapters.job_trigger.webhook_trigger.verification.api_keys import make_key
from portico_celery.kits.job import JobService
from portico_celery.ports.job import Job
from portico_celery.ports.job_queue import JobQueueAdapter
from portico_celery.ports.job_reader import JobFilter

MAIL: dict[str, Any] = {"job_type": "email.send", "payload": {"to": "ann@example.com"}}


class Mounted:
    """The application, a client of it, and what is in the store behind it."""

    def __init__(self, *, queue: JobQueueAdapter | None = None, **config: Any) -> None:
        self.service = JobService(queue or MemoryJobQueueAdapter())
        self.trigger = WebhookTrigger(self.service, WebhookConfig(**config))
        asyncio.run(self.trigger.start())
        app = Flask(__name__)
        app.register_blueprint(self.trigger.blueprint)
        self.client: FlaskClient = app.test_client()

    @property
    def jobs(self) -> list[Job]:
        """All jobs, the oldest first."""
        return list(reversed(asyncio.run(self.service.list_jobs(JobFilter(limit=1000))).jobs))

    def post(self, path: str, document: Any, headers: Mapping[str, str] | None = None) -> TestResponse:
        """Post a document below the prefix."""
        return self.client.post(f"/webhooks{path}", json=document, headers=dict(headers or {}))

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> TestResponse:
        """Get what is below the prefix."""
        return self.client.get(f"/webhooks{path}", headers=dict(headers or {}))

    def deliver(self, source: str, body: bytes, headers: Mapping[str, str]) -> TestResponse:
        """Deliver an event, byte by byte as it is."""
        return self.client.post(
            f"/webhooks/{source}", data=body, headers={"Content-Type": "application/json", **headers}
        )


def a_key(caller: str, **options: Any) -> tuple[ApiKey, dict[str, str]]:
    """Return a new key, and the header that bears it."""
    text, key_id, sha256 = make_key()
    return ApiKey(id=key_id, caller=caller, sha256=sha256, **options), {"Authorization": f"Bearer {text}"}


def body_of(document: Any) -> bytes:
    """Return a document as a sender writes it."""
    return json.dumps(document).encode()


def hex_hmac(secret: str, message: bytes) -> str:
    """Sign as most senders do."""
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def now_text(offset: int = 0) -> str:
    """Return the present in seconds, as headers have it."""
    return str(int(time.time()) + offset)
