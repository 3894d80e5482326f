"""A named sender: how it proves itself, and which of its events become which jobs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

from portico_celery.adapters.job_trigger.webhook_trigger.problem import Problem
from portico_celery.adapters.job_trigger.webhook_trigger.request_schema import WebhookJobRequest
from portico_celery.adapters.job_trigger.webhook_trigger.verification.scheme import SenderScheme
from portico_celery.exceptions import ConfigurationError

#: In ``events`` it stands for every event that has no entry of its own.
ANY_EVENT = "*"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_NOT_SOURCES = frozenset({"jobs", "queues", "docs"})


@dataclass(frozen=True, kw_only=True)
class WebhookEvent:
    """What a verified sender told. ``type`` and ``delivery_id`` are None where it did not say."""

    type: str | None
    delivery_id: str | None
    document: Mapping[str, Any]
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class EventJob:
    """The job that an event becomes.

    ``payload`` names each member with the path of its value in the event, as in ``{"repository":
    "repository.full_name"}``; without it the payload is the whole event. ``idempotency_key`` is such a path, too;
    without it the key is what the sender calls the delivery.
    """

    job_type: str
    payload: Mapping[str, str] | None = None
    queue_name: str | None = None
    priority: int | None = None
    idempotency_key: str | None = None

    def request(self, event: WebhookEvent) -> WebhookJobRequest:
        """Return the job to create. Raises Problem (400) where the event has not got what is named here."""
        return WebhookJobRequest(
            job_type=self.job_type,
            payload=self._payload(event.document),
            queue_name=self.queue_name,
            priority=self.priority,
            idempotency_key=self._key(event),
        )

    def _payload(self, document: Mapping[str, Any]) -> dict[str, Any]:
        if self.payload is None:
            return dict(document)
        return {name: _at(document, path) for name, path in self.payload.items()}

    def _key(self, event: WebhookEvent) -> str | None:
        return event.delivery_id if self.idempotency_key is None else str(_at(event.document, self.idempotency_key))


Events = Mapping[str, EventJob | str] | Callable[[WebhookEvent], WebhookJobRequest | None]


@dataclass(frozen=True, kw_only=True)
class WebhookSource:
    """``events`` maps a type of event to a job type or an EventJob; or it is a function that returns the request.

    What it does not map is answered 202, and ignored. An event is one job, however often it is delivered.
    ``max_body_bytes`` is the limit of its events, where they may be larger than other requests, or shall be smaller.
    """

    scheme: SenderScheme
    events: Events
    max_body_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.max_body_bytes is not None and self.max_body_bytes < 1:
            raise ConfigurationError(f"max_body_bytes must be at least 1, not {self.max_body_bytes}")
        if not callable(self.events) and not self.events:
            raise ConfigurationError("a source needs at least one event that becomes a job")

    def job_types(self) -> frozenset[str]:
        """Return the job types that it creates, as far as that is written down."""
        if callable(self.events):
            return frozenset()
        return frozenset(job if isinstance(job, str) else job.job_type for job in self.events.values())

    def request(self, event: WebhookEvent) -> WebhookJobRequest | None:
        """Return the job that an event becomes; None where it becomes none. Raises Problem (400)."""
        if callable(self.events):
            wanted = self.events(event)
            if wanted is None or wanted.idempotency_key is not None:
                return wanted
            return replace(wanted, idempotency_key=event.delivery_id)
        job = self.events.get(event.type or ANY_EVENT) or self.events.get(ANY_EVENT)
        if job is None:
            return None
        return (EventJob(job_type=job) if isinstance(job, str) else job).request(event)


def valid_source_name(name: str) -> str:
    """Return the last part of a source's address. Raises ConfigurationError."""
    if not _NAME.fullmatch(name) or name in _NOT_SOURCES:
        raise ConfigurationError(
            f"{name!r} can't be a source: use lower-case letters, digits, '_' and '-', and none of "
            f"{', '.join(sorted(_NOT_SOURCES))}"
        )
    return name


def _at(document: Mapping[str, Any], path: str) -> Any:
    value: Any = document
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            raise Problem(HTTPStatus.BAD_REQUEST, "The event lacks a member that its job needs.", reason=f"no {path}")
        value = value[name]
    return value
