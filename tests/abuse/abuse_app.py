"""The Celery application behind the webhook under attack. No worker runs: what is accepted stays to be counted."""

from __future__ import annotations

import os

from celery import Celery
from marshmallow import Schema, fields

from portico_celery import PorticoCelery
from portico_celery.adapters.job_trigger.webhook_trigger import PublicUrl

app = Celery("abuse", broker=os.environ["ABUSE_BROKER"])
portico = PorticoCelery(app, store=os.environ["ABUSE_STORE"])
for name in ("email.send", "report.daily", "event.any"):
    portico.declare(name, queue=os.environ["ABUSE_QUEUE"])


class Mail(Schema):
    """The payload of email.send."""

    to = fields.Email(required=True)
    callback = PublicUrl()
