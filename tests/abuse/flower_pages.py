"""A real Flower beside the webhook, and all that it shows to whoever opens its pages."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.abuse.target import Target
from tests.integration.worker_process import Program
from tests.services import free_port

APP = "tests.abuse.worker_app"
_PAGES = ("/", "/workers", "/workers?json=1", "/tasks", "/broker", "/metrics", "/healthcheck")
_API = ("/api/tasks", "/api/task/types", "/api/queues/length", "/api/workers?refresh=1")
# What the table on /tasks asks for.
_TABLE = (
    "/tasks/datatable?draw=1&start=0&length=100&search[value]=&order[0][column]=0&order[0][dir]=asc"
    "&columns[0][data]=name"
)


class Flower(Program):
    """``celery flower``, open to everybody on this machine."""

    def __init__(self, target: Target, directory: Path) -> None:
        self._port = free_port()
        command = [sys.executable, "-m", "celery", "-A", APP, "flower", "--address=127.0.0.1", f"--port={self._port}"]
        environment = {**target.environment, "FLOWER_UNAUTHENTICATED_API": "true"}
        super().__init__("flower", command, directory=directory, environment=environment)

    def is_ready(self) -> bool:
        """Whether it answers, and hears the events of a worker."""
        try:
            return bool(json.loads(self.page("/workers?json=1"))["data"])
        except OSError:
            return False

    def page(self, path: str) -> str:
        """Return what is at a path."""
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            text = response.read().decode()
        assert response.status == http.HTTPStatus.OK, f"{path}: {response.status}"
        return text

    def tasks(self) -> dict[str, Any]:
        """Return what it knows of each task."""
        known: dict[str, Any] = json.loads(self.page("/api/tasks"))
        return known

    def all_pages(self, worker: str, task_ids: Iterable[str]) -> dict[str, str]:
        """Return everything that it shows of a worker and of tasks, by path."""
        paths = [*_PAGES, *_API, _TABLE, f"/worker/{worker}"]
        paths += [path + task_id for task_id in task_ids for path in ("/task/", "/api/task/info/")]
        return {path: self.page(path) for path in paths}
