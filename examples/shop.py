"""A shop's Celery application with two job handlers, wired as a user would.

Run it with ``celery -A examples.shop worker``. Nothing connects when this module is imported.
Every address comes from the environment; the defaults suit services on one's own machine.
"""

from __future__ import annotations

import os

from celery import Celery

from examples.email_job import SendEmail, SmtpMailer
from examples.import_job import HttpFetcher, ImportCsv
from examples.orders_database import OrdersDatabase
from portico_celery import PorticoCelery

app = Celery("shop", broker=os.environ.get("SHOP_BROKER_URL", "amqp://guest:guest@127.0.0.1:5672//"))
portico = PorticoCelery(app, store=os.environ.get("SHOP_STORE_URL", "sqlite:///shop.db"))

mailer = SmtpMailer(
    host=os.environ.get("SHOP_SMTP_HOST", "127.0.0.1"),
    port=int(os.environ.get("SHOP_SMTP_PORT", "1025")),
    sender=os.environ.get("SHOP_SMTP_SENDER", "shop@example.com"),
)
fetcher = HttpFetcher()
orders = OrdersDatabase(os.environ.get("SHOP_ORDERS_DB", "orders.db"))

portico.register(SendEmail(mailer))
portico.register(ImportCsv(fetcher, orders))
