"""The webhook as it is deployed, with real services behind it, and what its callers and the tests see of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from amqp import NotFound
from celery import Celery
from kombu import Connection, Exchange, Queue

from portico_celery import PorticoCelery
from tests.abuse.server import Server
from tests.abuse.target_config import MANY, config_text
from tests.integration.worker_process import ROOT
from tests.services import speaks_amqp
from tests.unit.webhook.mounted import a_key


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server with what is behind it. The headers are those of its callers."""

    server: Server
    environment: Mapping[str, str]
    portico: PorticoCelery
    broker: str
    store: str
    queue_name: str
    as_shop: tuple[str, str]
    as_other: tuple[str, str]
    as_mailer: tuple[str, str]
    as_hasty: tuple[str, str]
    expired: tuple[str, str]

    def job_ids(self) -> set[str]:
        """Return the jobs in the store, which is a PostgreSQL."""
        with psycopg.connect(self.store) as connection:
            try:
                return {str(job_id) for (job_id,) in connection.execute("SELECT id FROM portico_jobs")}
            except psycopg.errors.UndefinedTable:  # the first request makes it
                return set()

    def rows(self) -> int:
        """Count the jobs in the store."""
        return len(self.job_ids())

    def messages(self) -> int:
        """Count the messages in the queue."""
        with Connection(self.broker) as connection, suppress(NotFound):  # the first message makes it
            channel: Any = connection.default_channel
            return int(channel.queue_declare(self.queue_name, passive=True).message_count)
        return 0

    def knocked_ids(self) -> list[str]:
        """Return the job of each message in the queue; what is no knock has none of them, but its text."""
        messages = self._messages()
        return [message.headers.get("portico", {}).get("job_id") or str(message.body) for message in messages]

    def message_texts(self) -> list[str]:
        """Return all that stands in the messages of the queue, which stay there."""
        return [f"{message.headers} {message.properties} {message.body!r}" for message in self._messages()]

    def _messages(self) -> list[Any]:
        taken: list[Any] = []
        with Connection(self.broker) as connection, suppress(NotFound):
            channel: Any = connection.default_channel
            while (message := channel.basic_get(self.queue_name)) is not None:
                taken.append(message)
        return taken  # closing the connection has put them back


@contextmanager
def a_target(
    directory: Path, *, broker: str, store: str, redis: str, per_caller: str = MANY, **settings: str
) -> Iterator[Target]:
    """Start a server; ``settings`` are further environment variables."""
    queue_name = f"portico-test-{uuid4().hex}"
    made = {name: a_key(name) for name in ("shop", "other", "hasty", "expired")}
    made["mailer"] = a_key("mailer", job_types=["email.send"])
    keys = {name: (key.id, key.sha256) for name, (key, _) in made.items()}
    config = directory / "webhook.toml"
    config.write_text(config_text(keys, queue_name, redis, per_caller))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PORTICO_", "CELERY_"))},
        "HOME": str(directory),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "PORTICO_APP": "tests.abuse.abuse_app:app",
        "PORTICO_WEBHOOK_CONFIG": str(config),
        "ABUSE_BROKER": broker,
        "ABUSE_STORE": store,
        "ABUSE_QUEUE": queue_name,
        **settings,
    }
    app = Celery("client", broker=broker, set_as_current=False)
    portico = PorticoCelery(app, store=store)
    headers = {name: ("Authorization", header["Authorization"]) for name, (_, header) in made.items()}
    callers = {name if name == "expired" else f"as_{name}": header for name, header in headers.items()}
    try:
        with Server(directory, environment) as server:
            yield Target(
                server=server,
                environment=environment,
                portico=portico,
                broker=broker,
                store=store,
                queue_name=queue_name,
                **callers,
            )
    finally:
        portico.close()
        app.close()
        _remove(queue_name, broker)


def _remove(queue_name: str, broker: str) -> None:
    # A node of a test's own may be away when the test has failed; what it kept goes with it.
    if not speaks_amqp(broker):
        return
    with Connection(broker) as connection:
        Queue(queue_name, channel=connection.default_channel).delete()
        Exchange(queue_name, channel=connection.default_channel).delete()
