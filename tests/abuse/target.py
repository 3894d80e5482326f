"""The webhook as it is deployed: gunicorn with real services, and a client that may send anything."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from celery import Celery
from kombu import Connection, Exchange, Queue

from portico_celery import PorticoCelery
from portico_celery.ports.job_reader import JobFilter
from tests.integration.worker_process import ROOT, Program
from tests.services import free_port
from tests.unit.webhook.mounted import a_key
from tests.waiting import eventually

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_" + "b2xk" * 8
RETIRED_SECRET = "whsec_" + "cmV0" * 8
SECONDS = 20.0

Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """What came back; status 0 where the connection was closed without an answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The JSON in it."""
        return json.loads(self.body)


class Server(Program):
    """gunicorn, by the settings that we ship."""

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        *,
        workers: int = 2,
        port: int | None = None,
        application: str | None = None,
        also_at: str | None = None,
    ) -> None:
        self.port = port or free_port()
        self._workers = workers
        command = [sys.executable, "-m", "gunicorn", "-c", "python:webhook_app.gunicorn_conf"]
        command += ["--workers", str(workers), "--bind", f"127.0.0.1:{self.port}"]
        command += [] if also_at is None else ["--bind", also_at]
        command += [] if application is None else [application]
        super().__init__(f"web-{uuid4().hex}", command, directory=directory, environment=environment)

    def is_ready(self) -> bool:
        """Whether it answers, and all of its processes hear what they are told."""
        try:
            return self.send("GET", "/health/live").status == http.HTTPStatus.OK and self.has_all_processes()
        except OSError:
            return False

    def has_all_processes(self) -> bool:
        """Whether there are as many processes as there should be, all of which can be told to stop.

        One that is just being made misses it, and is killed when the time for a graceful stop is over.
        """
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return len(children) == self._workers and all(map(_hears_signals, children))

    def send(self, method: str, path: str, body: bytes = b"", headers: Headers = ()) -> Answer:
        """Send a request with exactly these headers, and the body's length."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)) as connection:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value.encode("latin-1"))
            if not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in headers):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders()
            connection.send(body)
            return _answer(connection.getresponse())

    def raw(self, content: bytes) -> Answer:
        """Send bytes as they are, and read what comes back until the end."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS) as connection:
            try:
                connection.sendall(content)
                response = http.client.HTTPResponse(connection)
                response.begin()
                return _answer(response)
            except (ConnectionError, http.client.HTTPException):
                return Answer(0, {}, b"")


def _hears_signals(pid: str) -> bool:
    """Whether a process of gunicorn's has its own signal handlers: of SIGABRT last, for which its parent has none."""
    found = re.search(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> (signal.SIGABRT - 1) & 1)


def _answer(response: http.client.HTTPResponse) -> Answer:
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server with what is behind it. The headers are those of its callers."""

    server: Server
    portico: PorticoCelery
    broker: str
    queue_name: str
    as_shop: tuple[str, str]
    as_other: tuple[str, str]
    as_mailer: tuple[str, str]
    as_hasty: tuple[str, str]
    expired: tuple[str, str]

    def rows(self) -> int:
        """Count the jobs in the store."""
        count, cursor = 0, None
        while True:
            page = self.portico.sync.list_jobs(JobFilter(limit=1000, cursor=cursor))
            count, cursor = count + len(page.jobs), page.next_cursor
            if cursor is None:
                return count

    def messages(self) -> int:
        """Count the messages in the queue."""
        with Connection(self.broker) as connection:
            channel: Any = connection.default_channel
            return int(channel.queue_declare(self.queue_name, passive=True).message_count)

    def message_texts(self) -> list[str]:
        """Return all that stands in the messages of the queue, which stay there."""
        with Connection(self.broker) as connection:
            channel: Any = connection.default_channel
            taken = []
            while (message := channel.basic_get(self.queue_name)) is not None:
                taken.append(f"{message.headers} {message.properties} {message.body}")
            return taken  # closing the connection puts them back


@contextmanager
def a_target(directory: Path, *, broker: str, store: str, redis: str, **settings: str) -> Iterator[Target]:
    """Start a server; ``settings`` are further environment variables."""
    queue_name = f"portico-test-{uuid4().hex}"
    made = {name: a_key(name) for name in ("shop", "other", "hasty")}
    made["mailer"] = a_key("mailer", job_types=["email.send"])
    made["expired"] = a_key("old")
    keys = {name: (key.id, key.sha256) for name, (key, _) in made.items()}
    config = directory / "webhook.toml"
    config.write_text(_config(keys, queue_name, redis, uuid4().hex))
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
    try:
        with Server(directory, environment) as server:
            yield Target(
                server=server,
                portico=portico,
                broker=broker,
                queue_name=queue_name,
                as_shop=headers["shop"],
                as_other=headers["other"],
                as_mailer=headers["mailer"],
                as_hasty=headers["hasty"],
                expired=headers["expired"],
            )
    finally:
        portico.close()
        app.close()
        with Connection(broker) as connection:
            Queue(queue_name, channel=connection.default_channel).delete()
            Exchange(queue_name, channel=connection.default_channel).delete()


def settled(count: Any, expected: int) -> int:
    """Wait for a count that follows in the background; returns it as it is then, right or wrong."""
    try:
        eventually(lambda: count() == expected, timeout=15)
    except AssertionError:
        return int(count())
    return expected


def _config(keys: Mapping[str, tuple[str, str]], queue_name: str, redis: str, mark: str) -> str:
    entries = ""
    for name, (key_id, sha256) in keys.items():
        entries += f'[[keys]]\nid = "{key_id}"\ncaller = "{name}-{mark}"\nsha256 = "{sha256}"\n'
        entries += 'job_types = ["email.send"]\n' if name == "mailer" else ""
        entries += "expires_at = 2020-01-01T00:00:00Z\n" if name == "expired" else ""
    return f"""
allowed_job_types = ["email.send", "report.daily", "event.any"]
allowed_queues = ["{queue_name}"]

[payload_schemas]
"email.send" = "tests.abuse.abuse_app:Mail"

[rate_limits]
per_caller = "100000/minute"
storage = "{redis}"

{entries}
[sources.standard]
scheme = "standard-webhooks"
secrets = ["{SECRET}", "{OLD_SECRET}"]
events = {{"*" = "event.any"}}
[sources.crm]
scheme = "standard-webhooks"
secrets = ["whsec_{"QUJD" * 8}"]
events = {{"*" = "event.any"}}
[sources.github]
scheme = "github"
secrets = ["s"]
events = {{"push" = "event.any"}}
[sources.stripe]
scheme = "stripe"
secrets = ["s"]
events = {{"*" = "event.any"}}
[sources.slack]
scheme = "slack"
secrets = ["s"]
events = {{"*" = "event.any"}}
"""
