"""Which queues a worker consumes from, and what a priority is on each broker, without a broker."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Queue

from portico_celery import PorticoCelery
from portico_celery.adapters.celery import topology
from tests.unit.working import Handler

MADE = ["celery", "default", "mails"]


def an_app(**settings: Any) -> Any:
    app = Celery("topology", broker="portico-memory://", set_as_current=False)
    app.conf.update(settings)
    return app


def consumed(app: Any) -> list[str]:
    return sorted(app.amqp.queues.consume_from)


@pytest.mark.parametrize("moment", ["never", "before us", "before the handler", "after the handler"])
def test_a_registered_queue_is_consumed_whenever_the_app_first_looked_at_its_queues(moment: str) -> None:
    app = an_app()
    if moment == "before us":
        app.amqp.router  # noqa: B018  # looks at the queues, and keeps them
    portico = PorticoCelery(app, store="memory://")
    if moment == "before the handler":
        assert consumed(app) == ["celery", "default"]
    portico.register(Handler(), queue="mails")

    assert consumed(app) == MADE
    assert app.amqp.queues["mails"].queue_arguments == {"x-max-priority": 10}
    assert app.amqp.router.queues is app.amqp.queues


def test_queues_that_the_app_made_before_us_stay_as_they_are() -> None:
    app = an_app(task_queues=[Queue("mine", routing_key="mine", queue_arguments={"x-max-length": 5})])
    found = app.amqp.queues["mails"]
    PorticoCelery(app, store="memory://").register(Handler(), queue="mails")

    assert consumed(app) == ["default", "mails", "mine"]
    assert app.amqp.queues["mails"] is found
    assert found.queue_arguments is None
    assert app.amqp.queues["mine"].queue_arguments == {"x-max-length": 5}


def test_a_workers_own_choice_of_queues_stands() -> None:
    app = an_app()
    portico = PorticoCelery(app, store="memory://")
    app.amqp.queues.deselect(["default"])
    portico.register(Handler(), queue="mails")
    assert consumed(app) == ["celery", "mails"]
    app.amqp.queues.select(["reports"])
    assert consumed(app) == ["reports"]


@pytest.mark.parametrize("url", ["amqp://", "redis://", "portico-memory://"])
@pytest.mark.parametrize("number", [None, 0, 1, 5, 9])
def test_a_jobs_priority_for_a_brokers_number_leads_back_to_that_number(url: str, number: int | None) -> None:
    PorticoCelery(an_app())  # makes the scheme of the broker in memory known
    connection = Connection(url)
    assert topology.broker_priority(connection, topology.job_priority(connection, number)) == (number or 0)
