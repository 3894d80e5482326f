"""What a request to create a job must be like."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from itertools import islice
from typing import Any
from uuid import UUID

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from portico_celery.adapters.job_trigger.webhook_trigger.idempotency import KEY, KEY_RULE
from portico_celery.adapters.job_trigger.webhook_trigger.problem import Problem

MAX_RETRIES_LIMIT = 25
_PRIORITY_LIMIT = 2**31
_MAX_ERRORS = 20
_MAX_SHOWN_NAME = 60
# Both as JavaScript reads them too, for they stand in the OpenAPI document; "$" alone would let a line end follow.
_JOB_TYPE = re.compile(r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$(?!\n)")
_QUEUE = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,199}$(?!\n)")
# RabbitMQ's, Celery's and kombu's own, which on Redis are keys beside the queues; and ours for what no worker can read.
_RESERVED_QUEUE = re.compile(r"^(amq\.|.*celery\.pidbox|celeryev|celery_delayed|unacked|_kombu|portico\.parked)")
_LATE, _FAR = timedelta(minutes=5), timedelta(days=366)


@dataclass(frozen=True, kw_only=True)
class WebhookJobRequest:
    """A request to create a job. ``None`` leaves a value to the configuration, or to the job creator.

    ``job_id``, ``created_by`` and ``metadata`` are the trigger's own, from the idempotency key and the caller.
    """

    job_type: str
    payload: dict[str, Any]
    queue_name: str | None = None
    priority: int | None = None
    max_retries: int | None = None
    scheduled_at: datetime | None = None
    idempotency_key: str | None = None
    job_id: UUID | None = None
    created_by: UUID | None = None
    metadata: dict[str, Any] | None = None

    def arguments(self, default_queue: str = "default") -> dict[str, Any]:
        """Return the keywords of ``create_job``: the four that every trigger passes, and what else was asked for."""
        optional = {
            "max_retries": self.max_retries,
            "scheduled_at": self.scheduled_at,
            "job_id": self.job_id,
            "created_by": self.created_by,
            "metadata": self.metadata,
        }
        return {
            "job_type": self.job_type,
            "payload": self.payload,
            "queue_name": self.queue_name or default_queue,
            "priority": self.priority or 0,
            **{name: value for name, value in optional.items() if value is not None},
        }


class _OffsetDateTime(fields.AwareDateTime):
    """A time that says its zone; it comes back in UTC."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        try:
            return super()._deserialize(value, attr, data, **kwargs).astimezone(UTC)
        except OverflowError:
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE) from None


def is_reserved_queue(name: str) -> bool:
    """Whether a queue of this name belongs to Celery, RabbitMQ or ourselves."""
    return _RESERVED_QUEUE.match(name) is not None


def _queue_name(name: str) -> None:
    if is_reserved_queue(name):
        raise ValidationError("This queue is not for jobs.")


class JobRequestSchema(Schema):
    """The body of a request to create one job."""

    class Meta:
        """What is not known is refused, and the OpenAPI document says so."""

        unknown = RAISE

    job_type = fields.String(
        required=True,
        validate=[
            validate.Length(1, 128),
            validate.Regexp(_JOB_TYPE, error="Must be dotted parts of letters and digits."),
        ],
        metadata={"description": "Which handler runs the job."},
    )
    payload = fields.Dict(
        required=True,
        error_messages={"invalid": "Must be a JSON object."},
        metadata={"description": "What the handler gets.", "examples": [{}]},
    )
    queue_name = fields.String(
        validate=[validate.Regexp(_QUEUE, error="Must be letters, digits and _.:- alone."), _queue_name],
        metadata={
            "description": "The queue; without it, the one that the job type is registered with.",
            "not": {"pattern": _RESERVED_QUEUE.pattern},
            "examples": ["default"],
        },
    )
    priority = fields.Integer(
        strict=True,
        validate=validate.Range(-_PRIORITY_LIMIT, _PRIORITY_LIMIT - 1),
        metadata={"description": "Higher is more urgent. 8, not 8.0.", "examples": [0]},
    )
    max_retries = fields.Integer(
        strict=True,
        validate=validate.Range(0, MAX_RETRIES_LIMIT),
        metadata={"description": "How often it is tried again. 3, not 3.0.", "examples": [3]},
    )
    scheduled_at = _OffsetDateTime(
        format="iso",
        error_messages={
            "invalid": "Must be a date and time by ISO 8601.",
            "invalid_awareness": "Must say its time zone, such as 2030-01-31T12:00:00Z.",
        },
        metadata={"description": "When to run it: at most 366 days ahead. Times of the last 5 minutes mean now."},
    )


class BatchItemSchema(JobRequestSchema):
    """One job of a batch, which may have an idempotency key of its own."""

    idempotency_key = fields.String(
        validate=validate.Regexp(KEY, error=f"Must be {KEY_RULE}."),
        metadata={"description": "The same key is the same job; with another body it is refused.", "examples": ["1"]},
    )


_schemas: Mapping[type[Schema], Schema] = {kind: kind() for kind in (JobRequestSchema, BatchItemSchema)}


def job_request(document: Any, *, schema: type[Schema] = JobRequestSchema) -> WebhookJobRequest:
    """Read a request from its JSON value. Raises Problem (400), with what is wrong by field."""
    if not isinstance(document, dict):
        raise Problem(HTTPStatus.BAD_REQUEST, "The body must be a JSON object.")
    try:
        return WebhookJobRequest(**_schemas[schema].load(document))
    except ValidationError as error:
        raise invalid_fields(error.messages_dict) from None


def require_near(moment: datetime | None, now: datetime) -> None:
    """Refuse a time that a caller can't mean. Raises Problem (400)."""
    if moment is not None and not -_LATE <= moment - now <= _FAR:
        errors = {"scheduled_at": ["Must be at most 366 days ahead, and not more than 5 minutes past."]}
        raise invalid_fields(errors)


def invalid_fields(messages: Mapping[Any, Any], prefix: str = "") -> Problem:
    """Return the Problem (400) that names what is wrong by the path of each field."""
    # A body may hold thousands of unknown members; the answer need not name them all.
    errors = dict(islice(_by_path(messages, prefix), _MAX_ERRORS))
    return Problem(HTTPStatus.BAD_REQUEST, "Some fields of the request are wrong.", errors=errors)


def _by_path(messages: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, list[str]]]:
    for name, what in messages.items():
        shown = str(name)[:_MAX_SHOWN_NAME]
        path = f"{prefix}.{shown}" if prefix else shown
        if isinstance(what, Mapping):
            yield from _by_path(what, path)
        else:
            yield path, [str(one) for one in what] if isinstance(what, list) else [str(what)]
