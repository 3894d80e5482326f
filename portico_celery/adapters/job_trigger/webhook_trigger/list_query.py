"""What stands behind the question mark of the jobs API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from portico_celery.adapters.job_trigger.webhook_trigger.request_schema import invalid_fields
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_reader import JobFilter

MAX_WAIT_SECONDS = 30


class _WholeNumber(fields.Integer):
    """A number in plain digits: Python's int() reads 1_0 and other scripts' digits, too."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not (isinstance(value, str) and value.isascii() and value.isdecimal()):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **kwargs)


class JobListSchema(Schema):
    """Which jobs to list."""

    class Meta:
        """What is not known is refused."""

        unknown = RAISE

    queue_name = fields.String(validate=validate.Length(1, 200))
    job_type = fields.String(validate=validate.Length(1, 128))
    status = fields.String(validate=validate.OneOf([status.value for status in JobStatus], error="Is no status."))
    cursor = fields.String(validate=validate.Length(1, 200), metadata={"description": "next_cursor of the page before"})
    limit = _WholeNumber(validate=validate.Range(1, 1000))


class JobWaitSchema(Schema):
    """How long to wait for the end of a job."""

    class Meta:
        """What is not known is refused."""

        unknown = RAISE

    wait = _WholeNumber(
        validate=validate.Range(0, MAX_WAIT_SECONDS), metadata={"description": "Seconds to wait for the job's end."}
    )


_list, _wait = JobListSchema(), JobWaitSchema()


def job_filter(query: Mapping[str, str], created_by: UUID | None) -> JobFilter:
    """Read the filter, for the jobs of one caller or of all. Raises Problem (400)."""
    values = _loaded(_list, query)
    status = values.pop("status", None)
    return JobFilter(status=JobStatus(status) if status else None, created_by=created_by, **values)


def wait_seconds(query: Mapping[str, str]) -> int:
    """Return for how long to wait. Raises Problem (400)."""
    return int(_loaded(_wait, query).get("wait", 0))


def _loaded(schema: Schema, query: Mapping[str, str]) -> dict[str, Any]:
    try:
        return dict(schema.load(query))
    except ValidationError as error:
        raise invalid_fields(error.messages_dict) from None
