"""What may stand in the configuration file. What is not known is refused, and named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from marshmallow import RAISE, Schema, fields, validate

from webhook_app.log_output import LEVELS

_UNKNOWN = "Unknown field."


class Strict(Schema):
    """Refuses what it does not know: a misspelt allowlist would let in every type."""

    class Meta:
        """For all of them."""

        unknown = RAISE

    error_messages = {"unknown": _UNKNOWN}  # noqa: RUF012  # as marshmallow has it


class KeySchema(Strict):
    """An API key, as make-key prints it."""

    id = fields.String(required=True)
    caller = fields.String(required=True)
    sha256 = fields.String(required=True)
    job_types = fields.List(fields.String())
    queues = fields.List(fields.String())
    expires_at = fields.AwareDateTime()


class RateLimitsSchema(Strict):
    """How often callers may come."""

    per_address = fields.String()
    per_caller = fields.String()
    per_job_type = fields.Dict(keys=fields.String(), values=fields.String())
    storage = fields.String()


class EventSchema(Strict):
    """The job that an event becomes."""

    job_type = fields.String(required=True)
    payload = fields.Dict(keys=fields.String(), values=fields.String())
    queue_name = fields.String()
    priority = fields.Integer(strict=True)
    idempotency_key = fields.String()


class SourceSchema(Strict):
    """A named sender. What ``hmac`` needs besides is for it alone."""

    scheme = fields.String(
        required=True,
        validate=validate.OneOf(["standard-webhooks", "github", "stripe", "slack", "hmac", "none"]),
    )
    secrets = fields.List(fields.String(), load_default=list)
    events = fields.Dict(keys=fields.String(), values=fields.Raw(), required=True)
    max_body_bytes = fields.Integer(strict=True)
    signature_header = fields.String()
    algorithm = fields.String()
    encoding = fields.String()
    prefix = fields.String()
    timestamp_header = fields.String()
    event_header = fields.String()
    delivery_header = fields.String()


class FileSchema(Strict):
    """The whole file."""

    celery_app = fields.String()
    prefix = fields.String()
    auth = fields.String(validate=validate.OneOf(["keys", "none"]))
    allowed_job_types = fields.List(fields.String())
    allowed_queues = fields.List(fields.String())
    default_queue = fields.String()
    priorities = fields.Dict(keys=fields.String(), values=fields.Integer(strict=True))
    payload_schemas = fields.Dict(keys=fields.String(), values=fields.String())
    max_body_bytes = fields.Integer(strict=True)
    max_batch_bytes = fields.Integer(strict=True)
    max_pending = fields.Integer(strict=True)
    jobs_api = fields.Boolean()
    docs = fields.Boolean()
    log_level = fields.String(validate=validate.OneOf([*LEVELS, *map(str.upper, LEVELS)]))
    proxies = fields.Integer(strict=True, validate=validate.Range(0, 10))
    rate_limits = fields.Nested(RateLimitsSchema)
    keys = fields.List(fields.Nested(KeySchema))
    sources = fields.Dict(keys=fields.String(), values=fields.Nested(SourceSchema))


def misplaced(messages: Mapping[Any, Any]) -> str:
    """Say, of what a schema has found, what TOML does with a setting of the whole file that stands below a heading."""
    names = sorted(set(_unknown_names(messages)) & set(FileSchema().fields))
    if not names:
        return ""
    return (
        f"; what stands below a heading, such as [[keys]], belongs to it: move {', '.join(names)} to the top of the "
        "file, above the first heading"
    )


def _unknown_names(messages: Mapping[Any, Any]) -> Iterator[Any]:
    for name, what in messages.items():
        if what == [_UNKNOWN]:
            yield name
        elif isinstance(what, Mapping):
            yield from _unknown_names(what)
