"""The deployable application, as its file and its environment have it."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from portico_celery.adapters.job_queue.memory_queue import MemoryJobQueueAdapter
from portico_celery.adapters.job_store.memory_store import MemoryJobStore
from portico_celery.exceptions import ConfigurationError, StoreUnavailable
from portico_celery.kits.job import JobService
from tests.unit.queue_in_memory import NineMethods
from tests.unit.webhook.mounted import MAIL, body_of
from webhook_app import create_app
from webhook_app.__main__ import cli
from webhook_app.signing import SIGNERS, signed_headers

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
FILE = """
allowed_job_types = ["email.send", "repo.pushed", "crm.add"]
allowed_queues = ["mails", "ci"]
max_pending = 1000

[payload_schemas]
"email.send" = "tests.unit.webhook.test_api_keys:Address"

[priorities]
"email.send" = 5

[rate_limits]
per_caller = "100/minute"
per_job_type = {"crm.add" = "10/second"}

[sources.github]
scheme = "github"
secrets = ["$GITHUB_SECRET"]
[sources.github.events]
release = "crm.add"
[sources.github.events.push]
job_type = "repo.pushed"
queue_name = "ci"
payload = {repository = "repository.full_name"}
"""

Make = Callable[..., FlaskClient]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_SECRET", "s")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Builds the application by a file."""

    def client(text: str = FILE, service: Any = None, face: Any = None, **config: str) -> FlaskClient:
        file = tmp_path / "webhook.toml"
        file.write_text(text)
        face = face or SimpleNamespace(service=service or JobService(MemoryJobQueueAdapter()))
        return create_app(face, {"PORTICO_WEBHOOK_CONFIG": str(file), **config}).test_client()

    return client


def test_the_file_says_who_may_create_what(make: Make) -> None:
    made = CliRunner().invoke(cli, ["make-key", "--caller", "shop", "--job-type", "email.send", "--days", "2"])
    key = next(word for word in made.stderr.split() if word.startswith("pk_"))
    assert key not in made.stdout
    client = make(FILE + made.stdout)
    as_shop = {"Authorization": f"Bearer {key}"}

    answers = [
        client.post("/webhooks/jobs", json={**MAIL, **more}, headers=headers).status_code
        for more, headers in (
            ({"queue_name": "mails"}, as_shop),
            ({"queue_name": "mails"}, {}),
            ({"queue_name": "other"}, as_shop),
            ({"job_type": "crm.add"}, as_shop),
            ({"payload": {"to": "nobody"}}, as_shop),
        )
    ]

    assert answers == [202, 401, 400, 403, 400]
    (job,) = client.get("/webhooks/jobs", headers=as_shop).get_json()["jobs"]
    assert job["priority"] == 5


def test_a_source_of_the_file_takes_its_secret_from_the_environment(make: Make) -> None:
    client, body = make(), body_of({"repository": {"full_name": "ann/shop"}})
    headers = signed_headers("github", "s", body, timestamp="0", delivery_id="d1")

    def send(**more: str) -> int:
        return client.post(
            "/webhooks/github", data=body, content_type="application/json", headers={**headers, **more}
        ).status_code

    assert [send(), send(**{"X-Hub-Signature-256": "sha256=00"}), send(**{"X-GitHub-Event": "ping"})] == [202, 401, 202]
    assert client.get("/health/triggers").get_json()["webhook"]["ignored_count"] == 1
    assert client.post("/webhooks/jobs", json=MAIL).status_code == 401


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "auth = "),
        ("allowed_jobs = []", "allowed_jobs"),
        ('auth = "maybe"', "auth"),
        (FILE + "jobs_api = true\ndocs = false", "move docs, jobs_api to the top of the file"),
        ("[[keys]]\nid='a'\ncaller='b'\nsha256='c'\nauth = 'keys'", r"\[\[keys\]\], .* move auth to the top"),
        ("[[keys]]\nid = 'a'", "caller"),
        ("[[keys]]\nid='a'\ncaller='b'\nsha256='c'", "64 hexadecimal"),
        ("auth = 'none'\n[[keys]]\nid='a'\ncaller='b'\nsha256='" + "0" * 64 + "'", "take out one"),
        ("not toml", "is not TOML"),
        (FILE.replace("$GITHUB_SECRET", "$NOWHERE"), "NOWHERE, which is not set"),
        (FILE.replace('"github"', '"gitlab"'), "scheme"),
        (FILE.replace("queue_name", "queue"), "queue"),
        (FILE.replace("100/minute", "many"), "no rate limit"),
        (FILE.replace(":Address", ":Nothing"), "can't be imported"),
        (FILE.replace(', "crm.add"]', "]"), "creates crm.add"),
        ("auth = 'keys'", "lets in nobody"),
        ("[sources.a]\nscheme='none'\nsecrets=['s']\nevents={'*'='b'}", "secrets, which its scheme none does not"),
        ("[sources.a]\nscheme='stripe'\nsecrets=['s']\nalgorithm='md5'\nevents={'*'='b'}", "only hmac has algorithm"),
        ("[sources.a]\nscheme='none'\nmax_body_bytes=0\nevents={'*'='b'}", "max_body_bytes must be at least 1"),
        ("auth = 'keys'\n[sources.a]\nscheme='hmac'\nsecrets=['s']\nevents={'*'='b'}", "signature_header"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_what_to_change(make: Make, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(text)


def test_a_secret_in_a_wrong_file_is_not_shown(make: Make) -> None:
    with pytest.raises(ConfigurationError) as refused:
        make(FILE.replace("$GITHUB_SECRET", "planted").replace("secrets", "secret"))
    assert "planted" not in str(refused.value)


def test_the_environment_goes_before_the_file(make: Make) -> None:
    client = make(FILE, PORTICO_WEBHOOK_PREFIX="/hooks", PORTICO_WEBHOOK_AUTH="none", PORTICO_WEBHOOK_DOCS="false")

    assert client.post("/hooks/jobs", json=MAIL).status_code == 202
    assert client.get("/hooks/docs").status_code == 404
    for wrong in ({"PORTICO_WEBHOOK_DOCS": "no"}, {"PORTICO_WEBHOOK_PROXIES": "-1"}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            make(FILE, **wrong)


def test_every_answer_has_the_security_headers(make: Make) -> None:
    client = make()

    for path in ("/", "/health/live", "/webhooks/jobs", "/webhooks/docs"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "Strict-Transport-Security" not in headers
    assert client.get("/", base_url="https://localhost").headers["Strict-Transport-Security"]


def test_what_a_proxy_says_is_believed_only_when_told(make: Make) -> None:
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "10.1.1.1"}

    assert "Strict-Transport-Security" not in make().get("/", headers=forwarded).headers
    assert "Strict-Transport-Security" in make(FILE, PORTICO_WEBHOOK_PROXIES="1").get("/", headers=forwarded).headers


def test_ready_is_who_reaches_its_store(make: Make) -> None:
    class Away(JobService):
        async def get_oldest_due_seconds(self) -> float:
            raise StoreUnavailable("gone")

    service = JobService(MemoryJobQueueAdapter())
    good = make(service=service).get("/health/ready")
    away = make(service=Away(MemoryJobQueueAdapter())).get("/health/ready")
    no_broker = make(face=SimpleNamespace(service=service, broker_answers=lambda: False)).get("/health/ready")

    assert (good.status_code, good.get_json()["store"], good.get_json()["broker"]) == (200, True, None)
    assert (away.status_code, away.get_json()["store"]) == (503, False)
    assert (good.get_json()["oldest_due_seconds"], away.get_json()["oldest_due_seconds"]) == (0, None)
    assert (no_broker.status_code, no_broker.get_json()["broker"]) == (200, False)
    assert {answer.headers["Cache-Control"] for answer in (good, away)} == {"no-store"}


def test_ready_tells_how_long_the_job_has_waited_that_is_due_longest(make: Make) -> None:
    ahead = timedelta()
    store = MemoryJobStore(now=lambda: datetime.now(UTC) + ahead)
    service = JobService(MemoryJobQueueAdapter(store=store))
    client = make(service=service)
    asyncio.run(service.create_job("email.send", {}))
    asyncio.run(service.create_job("email.send", {}, scheduled_at=datetime.now(UTC) + timedelta(days=1)))

    ahead = timedelta(seconds=100)

    assert client.get("/health/ready").get_json()["oldest_due_seconds"] == pytest.approx(100, abs=10)


def test_ready_over_a_queue_that_can_not_tell_leaves_that_out(make: Make) -> None:
    ready = make(service=JobService(NineMethods())).get("/health/ready")

    assert (ready.status_code, ready.get_json()["store"], ready.get_json()["oldest_due_seconds"]) == (200, True, None)


def test_the_file_on_the_page_is_one(make: Make) -> None:
    page = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text()
    text = textwrap.dedent(page.partition("```toml\n")[2].partition("```")[0])
    client, body = make(text), body_of({"repository": {"full_name": "ann/shop"}, "after": "4b825dc"})
    headers = signed_headers("github", "s", body, timestamp="0", delivery_id="d1")

    answer = client.post("/webhooks/github", data=body, headers={"Content-Type": "application/json", **headers})

    assert answer.status_code == 202


@pytest.mark.parametrize("scheme", SIGNERS)
def test_what_the_tool_signs_verifies(make: Make, tmp_path: Path, scheme: str) -> None:
    secret = SECRET if scheme == "standard-webhooks" else "s"
    body = tmp_path / "body.json"
    body.write_bytes(body_of({"type": "a"}))
    events = f'[sources.it]\nscheme = "{scheme}"\nsecrets = ["{secret}"]\nevents = {{"*" = "crm.add"}}'

    printed = CliRunner().invoke(cli, ["sign", "--scheme", scheme, "--secret", secret, str(body)])
    headers = dict(line.split(": ", 1) for line in printed.stdout.splitlines())

    answer = make(events).post("/webhooks/it", data=body.read_bytes(), content_type="application/json", headers=headers)
    assert answer.status_code == 202
