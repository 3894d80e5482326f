from __future__ import annotations

import asyncio
import logging

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portico_celery.adapters.job_trigger.webhook_trigger import WebhookConfig, WebhookTrigger
from tests.unit.webhook.jobs_in_memory import JobsInMemory


@pytest.fixture(autouse=True)
def _every_event_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture
def jobs() -> JobsInMemory:
    return JobsInMemory()


@pytest.fixture
def trigger(jobs: JobsInMemory) -> WebhookTrigger:
    """A running trigger that allows two types, and bodies of at most 1000 bytes."""
    config = WebhookConfig(allowed_job_types=["email.send", "report.daily"], max_body_bytes=1000)
    trigger = WebhookTrigger(jobs, config)
    asyncio.run(trigger.start())
    return trigger


@pytest.fixture
def client(trigger: WebhookTrigger) -> FlaskClient:
    app = Flask(__name__)
    app.register_blueprint(trigger.blueprint)
    return app.test_client()
