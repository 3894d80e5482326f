"""The Celery application behind the webhook under attack. Mostly no worker runs: what is accepted can be counted."""

from __future__ import annotations

import os

from celery import Celery
from marshmallow import Schema, fields

from portico_celery import PorticoCelery
from portico_celery.adapters.job_trigger.webhook_trigger import PublicUrl

TYPES = ("email.send", "report.daily", "event.any")

app = Celery("abuse", broker=os.environ["ABUSE_BROKER"])
# Not as an argument: Celery shows its settings to whoever asks a worker for them.
app.conf.portico_store_url = os.environ["ABUSE_STORE"]
portico = PorticoCelery(app)
for name in TYPES:
    portico.declare(name, queue=os.environ["ABUSE_QUEUE"])


class Mail(Schema):
    """The payload of email.send."""

    to = fields.Email(required=True)
    callback = PublicUrl()
