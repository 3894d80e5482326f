"""What a request to create a job must be like."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import islice
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from portico_celery.adapters.job_trigger.webhook_trigger.problem import Problem

MAX_RETRIES_LIMIT = 25
_MAX_NAME_BYTES = 255
_PRIORITY_LIMIT = 2**31
_MAX_ERRORS = 20


@dataclass(frozen=True, kw_only=True)
class WebhookJobRequest:
    """A request to create a job. ``None`` leaves a value to the job creator."""

    job_type: str
    payload: dict[str, Any]
    queue_name: str = "default"
    priority: int = 0
    max_retries: int | None = None
    scheduled_at: datetime | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the keywords of ``create_job``: the four that every trigger passes, and what else was asked for."""
        optional = {"max_retries": self.max_retries, "scheduled_at": self.scheduled_at}
        return {
            "job_type": self.job_type,
            "payload": self.payload,
            "queue_name": self.queue_name,
            "priority": self.priority,
            **{name: value for name, value in optional.items() if value is not None},
        }


def _plain_name(name: str) -> None:
    if not name or not name.isprintable() or " " in name or len(name.encode()) > _MAX_NAME_BYTES:
        raise ValidationError(f"Must be printable text without spaces, of 1 to {_MAX_NAME_BYTES} bytes.")


class _UtcDateTime(fields.AwareDateTime):
    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        moment = super()._deserialize(value, attr, data, **kwargs)
        try:
            return moment.astimezone(UTC)
        except OverflowError:
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE) from None


class _JobRequestSchema(Schema):
    job_type = fields.String(required=True, validate=_plain_name)
    payload = fields.Dict(required=True, error_messages={"invalid": "Must be a JSON object."})
    queue_name = fields.String(validate=_plain_name)
    priority = fields.Integer(strict=True, validate=validate.Range(-_PRIORITY_LIMIT, _PRIORITY_LIMIT - 1))
    max_retries = fields.Integer(strict=True, validate=validate.Range(0, MAX_RETRIES_LIMIT))
    scheduled_at = _UtcDateTime(
        format="iso", default_timezone=UTC, error_messages={"invalid": "Must be a date and time by ISO 8601."}
    )


_schema = _JobRequestSchema(unknown=RAISE)


def job_request(document: Any) -> WebhookJobRequest:
    """Read a request from its JSON value. Raises Problem (400), with what is wrong by field."""
    if not isinstance(document, dict):
        raise Problem(HTTPStatus.BAD_REQUEST, "The body must be a JSON object.")
    try:
        return WebhookJobRequest(**_schema.load(document))
    except ValidationError as error:
        # A body may hold thousands of unknown members; the answer need not name them all.
        errors = dict(islice(error.messages_dict.items(), _MAX_ERRORS))
        raise Problem(HTTPStatus.BAD_REQUEST, "Some fields of the request are wrong.", errors=errors) from None
