"""What is said where a package that an extra brings is not installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from portico_celery.exceptions import ConfigurationError, MissingExtra, needs_extra

TRIGGER = "import portico_celery.adapters.job_trigger.webhook_trigger"
APP = "import runpy; runpy.run_module('webhook_app', run_name='__main__')"
STORE = (
    "from celery import Celery; from portico_celery import PorticoCelery; "
    "PorticoCelery(Celery(), store={!r}).sync.get_queue_stats('default')"
)
LIMITS = (
    "from portico_celery.adapters.job_trigger.webhook_trigger import RateLimits, WebhookConfig, WebhookTrigger; "
    "WebhookTrigger(None, WebhookConfig(rate_limits=RateLimits(storage='redis://localhost')))"
)
REDIS, WEBHOOK, POSTGRESQL = (f"pip install 'portico-celery[{name}]'" for name in ("redis", "webhook", "postgresql"))


def last_line_without(package: str, program: str) -> str:
    """Run a program in a process that can't import a package; the last line of what it complains of."""
    blocked = f"import sys; sys.modules[{package!r}] = None; {program}"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("package", ["apispec", "flask", "flask_limiter", "jiter", "limits", "marshmallow"])
def test_the_webhook_trigger_says_what_to_install(package: str) -> None:
    assert f"the webhook needs {package}: {WEBHOOK}" in last_line_without(package, TRIGGER)


@pytest.mark.parametrize("package", ["click", "flask", "marshmallow"])
def test_webhook_app_says_what_to_install(package: str) -> None:
    last = last_line_without(package, APP)

    assert f"needs {package}: {WEBHOOK}" in last


@pytest.mark.parametrize(
    ("package", "program", "advice"),
    [
        ("redis", STORE.format("redis://localhost"), f"a job store in Redis needs redis: {REDIS}"),
        ("redis", LIMITS, REDIS),
        ("psycopg", STORE.format("postgresql://localhost/jobs"), POSTGRESQL),
    ],
)
def test_what_speaks_to_a_server_says_what_to_install(package: str, program: str, advice: str) -> None:
    assert advice in last_line_without(package, program)


def test_the_error_is_one_of_configuration_and_one_of_importing() -> None:
    with pytest.raises(MissingExtra) as caught, needs_extra("a trial", extra="webhook"):
        raise ModuleNotFoundError(name="flask.views")

    assert isinstance(caught.value, ConfigurationError)
    assert isinstance(caught.value, ImportError)
    assert caught.value.name == "flask"


@pytest.mark.parametrize("name", ["webhook_app.lost", "portico_celery.lost", None])
def test_a_module_of_our_own_that_is_missing_is_no_extra(name: str | None) -> None:
    with pytest.raises(ModuleNotFoundError), needs_extra("a trial", extra="webhook"):
        raise ModuleNotFoundError(name=name)
