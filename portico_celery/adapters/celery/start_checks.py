"""What a worker refuses at its start, and what it warns of: what else would go wrong at some later hour."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from celery import Celery
from kombu.serialization import registry  # type: ignore[attr-defined]  # not in the type stubs
from kombu.utils.url import parse_url

from portico_celery.adapters.celery.job_task import JobTask
from portico_celery.exceptions import ConfigurationError

_PICKLE = "pickle"
_GREEN_POOLS = ("gevent", "eventlet")
_PICKLE_TYPE = "application/x-python-serialize"
_AMQP = ("amqp", "amqps", "pyamqp")
_MOST_SKEW_SECONDS = 5.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def refuse_green_pool(pool: Any, allowed: tuple[str, ...]) -> None:
    """Raise ConfigurationError for a pool of greenlets."""
    module = str(getattr(pool, "__module__", pool))
    for name in _GREEN_POOLS:
        if name in module and name not in allowed:
            raise ConfigurationError(
                f"the {name} pool patches the sockets and locks under asyncio, on which handlers run, so that jobs "
                "stall: use --pool=threads (or prefork, or solo), where one process runs many handlers at once"
                f"{_override(name)}"
            )


def refuse_pickle(app: Celery, allowed: tuple[str, ...]) -> None:
    """Raise ConfigurationError where the app takes messages in pickle."""
    accepted = {registry.name_to_type.get(name, name) for name in app.conf.accept_content or ()}
    if _PICKLE_TYPE in accepted and _PICKLE not in allowed:
        raise ConfigurationError(
            "accept_content has pickle: whoever can reach the broker then runs any code in this worker. "
            f"Take it out (jobs need json only){_override(_PICKLE)}"
        )


def _override(name: str) -> str:
    return f"; or, if you know what you do, set portico_allow = [{name!r}]"


def unsafe_settings(app: Celery) -> Iterator[str]:
    """Yield what is to be warned of: what is unsafe, why, and the remedy."""
    yield from _guest_from_afar(app)
    yield from _early_acknowledgement(app)


def _guest_from_afar(app: Celery) -> Iterator[str]:
    for url in _broker_urls(app):
        parts: dict[str, Any] = dict(parse_url(url))
        by_guest = (parts["userid"] or "guest") == "guest"
        if parts["transport"] in _AMQP and by_guest and (parts["hostname"] or "localhost") not in _LOOPBACK:
            yield (
                f"the broker at {parts['hostname']} is reached as RabbitMQ's default user guest, whose password "
                "everybody knows: make a user of your own (rabbitmqctl add_user) and name it in broker_url"
            )


def _broker_urls(app: Celery) -> list[str]:
    configured: Any = app.conf.broker_read_url or app.conf.broker_url or ""
    urls = configured.split(";") if isinstance(configured, str) else configured
    return [str(url) for url in urls if url]


def _early_acknowledgement(app: Celery) -> Iterator[str]:
    early = sorted(name for name, task in app.tasks.items() if isinstance(task, JobTask) and not task.acks_late)
    if early:
        yield (
            f"task_annotations sets acks_late=False for {', '.join(early)}: a message from a plain Celery client is "
            "then gone when its worker dies before the job is stored. Leave job types out of the annotation"
        )


def clock_skew(store_clock: datetime, own_clock: datetime) -> str | None:
    """Return what is to be warned of where this machine and the job store don't agree on the time."""
    skew = (own_clock - store_clock).total_seconds()
    if abs(skew) < _MOST_SKEW_SECONDS:
        return None
    return (
        f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the job store's, by which "
        "all jobs are due: what is scheduled here starts that much early or late. Synchronise both (NTP)"
    )
