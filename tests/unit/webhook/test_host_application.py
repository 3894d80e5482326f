"""Mounted in an application that has extensions of its own."""

from __future__ import annotations

from flask import Flask
from flask.testing import FlaskClient
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

from portico_celery.adapters.job_trigger.webhook_trigger import RateLimits
from tests.unit.webhook.mounted import MAIL, Mounted


class Host:
    """An application with a page and with limits of its own, in which a trigger is mounted."""

    def __init__(self, trigger: Mounted, *, exempt: bool = False, **config: str) -> None:
        app = Flask(__name__)
        app.config.from_mapping({"RATELIMIT_STORAGE_URI": "memory://", **config})
        limiter = Limiter(get_remote_address, app=app)
        app.add_url_rule("/page", "page", lambda: "a page")
        blueprint = trigger.trigger.blueprint
        if exempt:
            limiter.exempt(blueprint)
        app.register_blueprint(blueprint)
        self.client: FlaskClient = app.test_client()

    def posts(self, number: int) -> list[int]:
        return [self.client.post("/webhooks/jobs", json=MAIL).status_code for _ in range(number)]

    def pages(self, number: int) -> list[int]:
        return [self.client.get("/page").status_code for _ in range(number)]


def test_the_limits_of_the_host_hold_for_the_webhook_too_and_are_answered_as_a_problem() -> None:
    host = Host(Mounted(), RATELIMIT_DEFAULT="2/hour")

    assert host.posts(2) == [202, 202]
    refused = host.client.post("/webhooks/jobs", json=MAIL)
    assert (refused.status_code, refused.content_type) == (429, "application/problem+json")


def test_the_host_may_exempt_the_webhook_from_its_limits() -> None:
    host = Host(Mounted(), exempt=True, RATELIMIT_DEFAULT="2/hour")

    assert host.posts(3) == [202] * 3
    assert host.pages(3) == [200, 200, 429]


def test_limits_of_the_webhook_leave_those_of_the_host_as_they_are() -> None:
    mounted = Mounted(rate_limits=RateLimits(per_address="2/hour"))
    host = Host(mounted, exempt=True, RATELIMIT_DEFAULT="4/hour", RATELIMIT_APPLICATION="9/hour")

    assert host.posts(3) == [202, 202, 429]
    assert host.pages(5) == [200] * 4 + [429]
