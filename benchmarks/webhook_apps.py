"""The two applications that the webhook benchmark compares, each for gunicorn and told by its environment."""

from __future__ import annotations

import os

from celery import Celery
from flask import Flask, request
from flask.typing import ResponseReturnValue
from marshmallow import Schema, ValidationError, fields

from portico_celery import PorticoCelery

PLAIN_QUEUE = "portico-bench-webhook-plain"
JOB_QUEUE = "portico-bench-webhook-jobs"

app = Celery("bench", broker=os.environ.get("BENCH_BROKER_URL", "amqp://guest:guest@127.0.0.1:5672//"))
app.conf.broker_transport_options = {"confirm_publish": True}
app.conf.task_ignore_result = True
portico = PorticoCelery(app, store=os.environ.get("BENCH_STORE_URL", "memory://"))
portico.declare("bench.job", queue=JOB_QUEUE)


class Mail(Schema):
    """The payload, checked by both."""

    recipient = fields.Email(required=True)
    subject = fields.String(required=True)
    text = fields.String(required=True)


class Request(Schema):
    """The body, as the plain view checks it."""

    job_type = fields.String(required=True)
    payload = fields.Nested(Mail, required=True)


_request = Request()


def plain_view() -> Flask:
    """Build the least that a Flask view could be: it validates, and sends the task, confirmed."""
    web = Flask(__name__)

    @web.post("/webhooks/jobs")
    def create() -> ResponseReturnValue:
        try:
            wanted = _request.load(request.get_json())
        except ValidationError as error:
            return {"errors": error.messages}, 400
        result = app.send_task("bench.plain", kwargs=wanted["payload"], queue=PLAIN_QUEUE)
        return {"job_id": result.id}, 202

    return web
