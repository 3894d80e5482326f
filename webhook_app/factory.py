"""Builds the Flask application."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from uuid import uuid4

from flask import Flask
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from portico_celery.adapters.job_trigger.webhook_trigger import WebhookTrigger
from portico_celery.adapters.job_trigger.webhook_trigger.blueprint import flask_response, is_error, problem_of
from webhook_app.assembly import webhook_config
from webhook_app.celery_application import PorticoFace, load_portico
from webhook_app.configuration import Configuration
from webhook_app.health import health_blueprint
from webhook_app.log_output import log_to_stderr
from webhook_app.security_headers import add_security_headers, trust_proxies


def create_app(portico: PorticoFace | None = None, config: Mapping[str, object] | None = None) -> Flask:
    """Build the application. Nothing connects yet.

    Without ``portico``, it is that of the Celery application named by PORTICO_APP. ``config`` goes into the Flask
    application's configuration, and what it says by our names (see Configuration) goes before the environment.
    """
    settings = Configuration.read(config or {})
    trigger_config = webhook_config(settings.values)
    face = load_portico(settings.celery_app) if portico is None else portico
    # Only now: the Celery application may have configured logging.
    log_to_stderr(settings.values.get("log_level", "info"))
    trigger = WebhookTrigger(face.service, config=trigger_config)
    # No folder of static files: every URL that is not ours is a 404.
    app = Flask("webhook_app", static_folder=None)
    # Nor is //jobs another word for /jobs.
    app.url_map.merge_slashes = False
    app.config.from_mapping(config or {})
    app.register_blueprint(trigger.blueprint)
    app.register_blueprint(health_blueprint(trigger, getattr(face, "broker_answers", None)))
    app.register_error_handler(HTTPException, _problem_response)
    app.extensions["portico_webhook"] = trigger
    add_security_headers(app)
    trust_proxies(app, settings.values.get("proxies", 0))
    asyncio.run(trigger.start())
    return app


def _problem_response(error: HTTPException) -> ResponseReturnValue:
    return flask_response(problem_of(error).answer(str(uuid4()))) if is_error(error) else error.get_response()
