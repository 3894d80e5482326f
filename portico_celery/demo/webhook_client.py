"""A client of the webhook, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

from portico_celery.demo.web_server import LOCALHOST

_TIMEOUT = 10.0


@dataclass(frozen=True)
class Answer:
    """The status, and the JSON that came with it."""

    status: int
    document: dict[str, Any]


class WebhookClient:
    """Each request is a connection of its own."""

    def __init__(self, port: int, prefix: str) -> None:
        self._port = port
        self._path = f"{prefix}/jobs"
        self.jobs_url = f"http://{LOCALHOST}:{port}{self._path}"

    def post(self, request: Mapping[str, Any]) -> Answer:
        """Ask for a job."""
        return self._ask("POST", self._path, json.dumps(request))

    def get(self, job_id: str) -> Answer:
        """Ask how a job is."""
        return self._ask("GET", f"{self._path}/{job_id}", None)

    def _ask(self, method: str, path: str, body: str | None) -> Answer:
        connection = HTTPConnection(LOCALHOST, self._port, timeout=_TIMEOUT)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return Answer(response.status, json.loads(response.read()))
        finally:
            connection.close()
