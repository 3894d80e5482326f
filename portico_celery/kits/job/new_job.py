"""What a new job must be like: arguments in, a checked Job out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeGuard
from uuid import UUID, uuid4

from portico_celery.exceptions import ValidationError
from portico_celery.ports.job import Job

MAX_RETRIES_LIMIT = 1_000
# RabbitMQ's limit for a queue's name is 255 bytes.
_MAX_QUEUE_NAME_BYTES = 255
_PRIORITY_LIMIT = 2**31
_JOB_TYPE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_MAX_JOB_TYPE_CHARS = 128
JOB_TYPE_RULE = (
    f"dotted parts of letters, digits, '_' and '-', at most {_MAX_JOB_TYPE_CHARS} characters, such as 'email.send'"
)
_OPTIONS = frozenset({"scheduled_at", "max_retries", "created_by", "metadata", "job_id"})


def new_job(
    job_type: str,
    payload: dict[str, Any],
    queue_name: str,
    priority: int,
    options: Mapping[str, Any],
    *,
    max_payload_bytes: int,
) -> Job:
    """Build a job from ``create_job``'s arguments. Raises ValidationError, which says what to change."""
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise ValidationError(f"create_job does not know {', '.join(unknown)}; it takes {', '.join(sorted(_OPTIONS))}")
    if not is_job_type(job_type):
        raise ValidationError(f"job_type must be {JOB_TYPE_RULE}, not {_shown(job_type)}")
    job_id = options.get("job_id")
    metadata = options.get("metadata")
    return Job(
        id=uuid4() if job_id is None else as_uuid(job_id, "job_id"),
        queue_name=valid_queue_name(queue_name),
        job_type=job_type,
        payload=valid_json_object(payload, "payload", max_payload_bytes),
        priority=_integer(priority, "priority", -_PRIORITY_LIMIT, _PRIORITY_LIMIT - 1),
        max_retries=_integer(_or(options.get("max_retries"), 3), "max_retries", 0, MAX_RETRIES_LIMIT),
        scheduled_at=_utc(options.get("scheduled_at")),
        created_by=None if options.get("created_by") is None else as_uuid(options["created_by"], "created_by"),
        metadata={} if metadata is None else valid_json_object(metadata, "metadata", max_payload_bytes),
    )


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def as_uuid(value: object, name: str) -> UUID:
    """Return a UUID given as such or as its text. Raises ValidationError."""
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)  # type: ignore[arg-type]  # whatever it is, UUID() refuses it below
    except (ValueError, TypeError, AttributeError):
        raise ValidationError(f"{name} must be a UUID, not {_shown(value)}") from None


def is_job_type(name: object) -> TypeGuard[str]:
    """Whether this may be a job type's name: see JOB_TYPE_RULE."""
    return isinstance(name, str) and len(name) <= _MAX_JOB_TYPE_CHARS and _JOB_TYPE.fullmatch(name) is not None


def valid_queue_name(name: object) -> str:
    """Return a queue's name that every broker takes. Raises ValidationError."""
    if (
        not isinstance(name, str)
        or not name
        or not name.isprintable()
        or any(character.isspace() for character in name)
        or len(name.encode()) > _MAX_QUEUE_NAME_BYTES
    ):
        raise ValidationError(
            f"queue_name must be printable text without spaces, of 1 to {_MAX_QUEUE_NAME_BYTES} bytes, "
            f"not {_shown(name)}"
        )
    return name


def valid_json_object(value: object, name: str, max_bytes: int) -> dict[str, Any]:
    """Return the value as JSON gives it back: an own copy. Raises ValidationError with the path of the fault."""
    if not isinstance(value, dict):
        raise ValidationError(f"{name} must be a dict, not {type(value).__name__}")
    _refuse_what_is_not_json(value, name)
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValidationError(f"{name} is not JSON-serialisable: {error}") from error
    if len(text) > max_bytes:
        raise ValidationError(
            f"{name} is {len(text):,} bytes of JSON, and the limit is {max_bytes:,}: store the data elsewhere "
            "and pass a reference (or raise portico_max_payload_bytes)"
        )
    copy: dict[str, Any] = json.loads(text)
    return copy


def _refuse_what_is_not_json(value: object, path: str, depth: int = 0) -> None:
    # json.dumps would turn an integer key into text without a word; here a payload comes back as it went in.
    if depth > 100:
        raise ValidationError(f"{path} is nested too deeply: at most 100 levels")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValidationError(f"{path} has the key {key!r}: JSON keys are strings")
            _refuse_what_is_not_json(item, f"{path}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_what_is_not_json(item, f"{path}[{index}]", depth + 1)
    elif value is not None and not isinstance(value, str | int | float | bool):
        raise ValidationError(
            f"{path} is a {type(value).__name__}, which JSON does not have: pass text, a number, a list or a dict"
        )


def _integer(value: object, name: str, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValidationError(f"{name} must be an integer from {low} to {high}, not {_shown(value)}")
    return value


def _utc(value: object) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise ValidationError(f"scheduled_at must be a datetime, not {_shown(value)}")
    # A naive datetime is taken as UTC.
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise ValidationError(f"scheduled_at must be a datetime that UTC has, too, not {_shown(value)}") from None


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}..."
