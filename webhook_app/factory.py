"""Builds the Flask application."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from flask import Flask
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from portico_celery.adapters.job_trigger.webhook_trigger import WebhookConfig, WebhookTrigger
from portico_celery.adapters.job_trigger.webhook_trigger.problem import is_error, problem_of
from portico_celery.utils.logging import get_logger
from webhook_app.celery_application import PorticoFace, load_portico
from webhook_app.configuration import Configuration

logger = get_logger(__name__)


def create_app(portico: PorticoFace | None = None, config: Mapping[str, object] | None = None) -> Flask:
    """Build the application. Nothing connects yet.

    Without ``portico``, it is that of the Celery application named by PORTICO_APP. ``config`` goes into the Flask
    application's configuration, and what it says by our names (see Configuration) goes before the environment.
    """
    settings = Configuration.read(config or {})
    face = load_portico(settings.celery_app) if portico is None else portico
    trigger = WebhookTrigger(
        face.service, config=WebhookConfig(prefix=settings.prefix, allowed_job_types=settings.allowed_job_types)
    )
    # No folder of static files: every URL that is not ours is a 404.
    app = Flask("webhook_app", static_folder=None)
    app.config.from_mapping(config or {})
    app.register_blueprint(trigger.blueprint)
    app.register_error_handler(HTTPException, _problem_response)
    app.extensions["portico_webhook"] = trigger
    asyncio.run(trigger.start())
    _warn_of_open_door(trigger.config)
    return app


def _problem_response(error: HTTPException) -> ResponseReturnValue:
    return problem_of(error).response() if is_error(error) else error.get_response()


def _warn_of_open_door(config: WebhookConfig) -> None:
    logger.warning(
        "webhook_without_authentication",
        prefix=config.prefix,
        allowed_types="every type" if config.allowed_job_types is None else ",".join(config.allowed_job_types),
        advice="anyone who reaches this application can create these jobs: put it behind what authenticates callers",
    )
