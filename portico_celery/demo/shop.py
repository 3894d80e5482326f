"""The demo's Celery application: the examples' handlers, wired to servers that the demo runs itself."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urljoin

from celery import Celery
from sqlalchemy import URL

from examples.email_job import SendEmail, SmtpMailer
from examples.import_job import Fetcher, HttpFetcher, ImportCsv
from examples.orders_database import OrdersDatabase
from portico_celery import event_loop
from portico_celery.compose import PorticoCelery
from portico_celery.demo.web_server import LOCALHOST

EMAIL = "email.send"
IMPORT = "data.import"
UNREACHABLE = "email.unreachable"

_SENDER = "The Shop <shop@example.com>"
_TIMEOUT = 5.0
# Short, so that there is something to see, and so that a demo that was killed soon goes on.
_SETTINGS = {
    "portico_retry_base_delay": 0.3,
    "portico_lease_seconds": 5,
    "portico_knock_seconds": 1,
    # So that a retry starts when its step says.
    "portico_sweep_seconds": 0.1,
    "worker_enable_remote_control": False,
    "worker_prefetch_multiplier": 1,
    "broker_connection_retry_on_startup": True,
}
# With these in the environment, Celery would turn from the demo's broker to one that may be in use.
_FOREIGN = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND")


class SendUnreachableEmail(SendEmail):
    """The examples' handler, under a name of its own, for the mailer whose server is down."""

    @property
    def job_type(self) -> str:
        return UNREACHABLE


class OwnServerFetcher:
    """Fetches what is on the demo's own server too: a URL without a host, as its port changes from run to run."""

    def __init__(self, fetcher: Fetcher, own_url: str) -> None:
        self._fetcher = fetcher
        self._own_url = own_url

    async def fetch(self, url: str) -> bytes:
        return await self._fetcher.fetch(urljoin(self._own_url, url))


@contextmanager
def open_shop(directory: Path, *, own_url: str, mail_port: int) -> Iterator[PorticoCelery]:
    """Wire the application. What it opens is closed at the end; its jobs stay in ``directory``."""
    fetcher = HttpFetcher(timeout=_TIMEOUT)
    with _deaf_port() as deaf_port:
        portico = _portico(directory)
        portico.register(SendEmail(SmtpMailer(LOCALHOST, mail_port, _SENDER, timeout=_TIMEOUT)))
        portico.register(SendUnreachableEmail(SmtpMailer(LOCALHOST, deaf_port, _SENDER, timeout=_TIMEOUT)))
        portico.register(ImportCsv(OwnServerFetcher(fetcher, own_url), OrdersDatabase(directory / "orders.db")))
        try:
            yield portico
        finally:
            event_loop.wait(fetcher.aclose())
            portico.close()


def _portico(directory: Path) -> PorticoCelery:
    for name in _FOREIGN:
        os.environ.pop(name, None)
    app = Celery("portico-demo", broker="portico-memory://")
    app.conf.update(_SETTINGS)
    # Not by hand: what the directory is called may mean something in a URL.
    store = URL.create("sqlite", database=str(directory / "jobs.db"))
    return PorticoCelery(app, store=store.render_as_string())


@contextmanager
def _deaf_port() -> Iterator[int]:
    # Bound, so that nobody else answers there, but not listening: connections are refused.
    with closing(socket.socket()) as deaf:
        deaf.bind((LOCALHOST, 0))
        yield deaf.getsockname()[1]
