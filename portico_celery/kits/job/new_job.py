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
_MAX_LEVELS = 100
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
        known = ", ".join(("job_type", "payload", "queue_name", "priority", *sorted(_OPTIONS)))
        raise ValidationError(f"create_job does not know {', '.join(unknown)}; it takes {known}")
    if not is_job_type(job_type):
        raise _refused("job_type", f"must be {JOB_TYPE_RULE}, not {_shown(job_type)}")
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
        raise _refused(name, f"must be a UUID, not {_shown(value)}") from None


def is_job_type(name: object) -> TypeGuard[str]:
    """Whether this may be a job type's name: see JOB_TYPE_RULE."""
    return isinstance(name, str) and len(name) <= _MAX_JOB_TYPE_CHARS and _JOB_TYPE.fullmatch(name) is not None


def valid_queue_name(name: object) -> str:
    """Return a queue's name that every broker takes. Raises ValidationError."""
    if (
        not isinstance(name, str)
        or not name
        or not name.isprintable()
        or " " in name  # the only space that is printable
        or len(name.encode()) > _MAX_QUEUE_NAME_BYTES
    ):
        raise _refused(
            "queue_name",
            f"must be printable text without spaces, of 1 to {_MAX_QUEUE_NAME_BYTES} bytes, not {_shown(name)}",
        )
    return name


def valid_json_object(value: object, name: str, max_bytes: int) -> dict[str, Any]:
    """Return the value as JSON gives it back: an own copy. Raises ValidationError with the path of the fault."""
    if not isinstance(value, dict):
        raise _refused(name, f"must be a dict, not {type(value).__name__}")
    try:
        text = json.dumps(value, allow_nan=False)
        copy: dict[str, Any] = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        _refuse_what_is_not_json(value, name)
        raise _refused(name, f"is not JSON-serialisable: {error}") from error
    # Piece by piece only where it may be nested too deeply, or has not come back as it went in.
    if text.count("{") + text.count("[") > _MAX_LEVELS or copy != value:
        _refuse_what_is_not_json(value, name)
    if len(text) > max_bytes:
        raise _refused(
            name,
            f"is {len(text):,} bytes of JSON, and the limit is {max_bytes:,}: store the data elsewhere "
            "and pass a reference (or raise portico_max_payload_bytes)",
        )
    return copy


def _refuse_what_is_not_json(value: object, path: str, depth: int = 0) -> None:
    # json.dumps would turn an integer key into text without a word; here a payload comes back as it went in.
    if depth > _MAX_LEVELS:
        raise _refused(path, f"is nested too deeply: at most {_MAX_LEVELS} levels")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise _refused(path, f"has the key {key!r}: JSON keys are strings")
            _refuse_what_is_not_json(item, f"{path}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_what_is_not_json(item, f"{path}[{index}]", depth + 1)
    elif value is not None and not isinstance(value, str | int | float | bool):
        raise _refused(
            path, f"is a {type(value).__name__}, which JSON does not have: pass text, a number, a list or a dict"
        )


def _integer(value: object, name: str, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _refused(name, f"must be an integer from {low} to {high}, not {_shown(value)}")
    return value


def _utc(value: object) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise _refused("scheduled_at", f"must be a datetime, not {_shown(value)}")
    # A naive datetime is taken as UTC.
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise _refused("scheduled_at", f"must be a datetime that UTC has, too, not {_shown(value)}") from None


def _refused(path: str, fault: str) -> ValidationError:
    # payload.rows[3] is a place within the argument payload.
    return ValidationError(f"{path} {fault}", argument=re.split(r"[.\[]", path, maxsplit=1)[0])


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}..."
