"""The deployable application, put together from its environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from portico_celery.exceptions import ConfigurationError
from tests.unit.webhook.jobs_in_memory import JobsInMemory
from webhook_app import create_app

MAIL = {"job_type": "email.send", "payload": {}}

SHOP = """
from celery import Celery
from types import SimpleNamespace
from tests.unit.webhook.jobs_in_memory import JobsInMemory

{name} = Celery("shop", broker="amqp://nowhere.invalid")
{name}.portico = SimpleNamespace(service=JobsInMemory())
"""


@dataclass
class Portico:
    service: JobsInMemory


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PORTICO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PORTICO_WEBHOOK_AUTH", "none")


@pytest.fixture
def portico(jobs: JobsInMemory) -> Portico:
    return Portico(jobs)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory to import from, and nothing left of it afterwards."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in {name for name in set(sys.modules) - before if name.startswith("shop")}:
        del sys.modules[name]


def test_the_application_creates_jobs_and_shows_them(portico: Portico) -> None:
    client = create_app(portico).test_client()

    created = client.post("/webhooks/jobs", json=MAIL)

    assert created.status_code == 202
    assert client.get(created.headers["Location"]).get_json()["status"] == "pending"


def test_the_environment_says_where_and_what(portico: Portico, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTICO_WEBHOOK_PREFIX", "/hooks")
    monkeypatch.setenv("PORTICO_WEBHOOK_ALLOWED_JOB_TYPES", "report.daily, email.send,")
    client = create_app(portico).test_client()

    assert client.post("/hooks/jobs", json=MAIL).status_code == 202
    assert client.post("/hooks/jobs", json={**MAIL, "job_type": "shop.close"}).status_code == 403


def test_the_given_configuration_goes_before_the_environment_and_into_flask(
    portico: Portico, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTICO_WEBHOOK_PREFIX", "/hooks")
    app = create_app(portico, {"PORTICO_WEBHOOK_PREFIX": "/mine", "TESTING": True})

    assert app.testing
    assert app.test_client().post("/mine/jobs", json=MAIL).status_code == 202


def test_an_empty_allowlist_in_the_environment_means_every_type(
    portico: Portico, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTICO_WEBHOOK_ALLOWED_JOB_TYPES", "")

    assert create_app(portico).test_client().post("/webhooks/jobs", json=MAIL).status_code == 202


def test_an_allowlist_of_commas_alone_opens_nothing(portico: Portico) -> None:
    client = create_app(portico, {"PORTICO_WEBHOOK_ALLOWED_JOB_TYPES": ","}).test_client()

    assert client.post("/webhooks/jobs", json=MAIL).status_code == 403


def test_a_misspelt_setting_is_refused(portico: Portico, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTICO_WEBHOOK_ALLOWED_TYPES", "email.send")

    with pytest.raises(ConfigurationError, match="PORTICO_WEBHOOK_ALLOWED_TYPES: not known"):
        create_app(portico)


def test_a_setting_that_is_no_text_is_refused(portico: Portico) -> None:
    with pytest.raises(ConfigurationError, match="must be text"):
        create_app(portico, {"PORTICO_WEBHOOK_ALLOWED_JOB_TYPES": ["email.send"]})


def test_the_missing_authentication_is_said_aloud(portico: Portico, caplog: pytest.LogCaptureFixture) -> None:
    create_app(portico)

    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith("event=webhook_without_authentication")
    assert "anyone who reaches" in line


@pytest.mark.parametrize("url", ["/", "/nowhere", "/static/app.js", "/webhooks"])
def test_an_unknown_url_is_a_problem_too(portico: Portico, url: str) -> None:
    response = create_app(portico).test_client().get(url)

    assert response.status_code == 404
    assert response.content_type == "application/problem+json"


@pytest.mark.parametrize(
    ("name", "portico_app"), [("app", "shop:app"), ("app", "shop"), ("celery", "shop"), ("mine", "shop:mine")]
)
def test_the_celery_application_is_found_as_celery_finds_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str, portico_app: str
) -> None:
    (project / "shop.py").write_text(SHOP.format(name=name))
    monkeypatch.setenv("PORTICO_APP", portico_app)

    assert create_app().test_client().post("/webhooks/jobs", json=MAIL).status_code == 202


def test_without_portico_app_the_error_says_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match=r"PORTICO_APP is not set.*PORTICO_APP=shop:app"):
        create_app()


@pytest.mark.parametrize("portico_app", ["shop_of_nobody", "shop_of_nobody:app", "shop:nothing", "shop", ":", "."])
def test_a_portico_app_that_leads_nowhere_is_named_in_the_error(project: Path, portico_app: str) -> None:
    (project / "shop.py").write_text("")

    with pytest.raises(ConfigurationError, match="PORTICO_APP="):
        create_app(config={"PORTICO_APP": portico_app})


def test_a_celery_application_without_portico_is_named_in_the_error(project: Path) -> None:
    (project / "shop.py").write_text('from celery import Celery\napp = Celery("shop")')

    with pytest.raises(ConfigurationError, match=r"PORTICO_APP=shop .*PorticoCelery\(app"):
        create_app(config={"PORTICO_APP": "shop"})


@pytest.mark.parametrize("portico_app", ["shop", "shop:app"])
def test_a_wrong_configuration_of_the_celery_application_speaks_for_itself(project: Path, portico_app: str) -> None:
    (project / "shop.py").write_text(
        "from portico_celery.exceptions import ConfigurationError\nraise ConfigurationError('set portico_store_url')"
    )

    with pytest.raises(ConfigurationError, match=r"^set portico_store_url$"):
        create_app(config={"PORTICO_APP": portico_app})
