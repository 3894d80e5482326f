"""What a task message must be like, where Celery would notice too late: in the pool, where the message is lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kombu import Message


def fault_of(message: Message) -> str | None:
    """Say what is wrong with a message of Celery's protocol 2; None where nothing is, or Celery itself says it."""
    headers: object = message.headers  # a dict, says kombu, and it is None where there are none
    if not isinstance(headers, dict) or "task" not in headers:
        return None
    if not _is_time_limit(headers.get("timelimit")):
        # This one would end a prefork worker.
        return f"the time limits are not two numbers: {headers['timelimit']!r}"
    try:
        body = message.payload
    except Exception:  # noqa: BLE001  # Celery meets the same, and says what it is
        return None
    return None if isinstance(body, dict) else _fault_of_body(body)


def task_name_of(message: Message) -> str | None:
    """Return the task that a message calls, of either of Celery's protocols; None where it names none."""
    headers: object = message.headers
    name = headers.get("task") if isinstance(headers, dict) else None
    if name is None:
        try:
            body = message.payload
        except Exception:  # noqa: BLE001  # Celery meets the same, and says what it is
            return None
        name = body.get("task") if isinstance(body, dict) else None
    return name if isinstance(name, str) else None


def _fault_of_body(body: Any) -> str | None:
    if not isinstance(body, list | tuple) or len(body) != 3:
        return "the body is not a list of three: arguments, keyword arguments, options"
    arguments, keywords, options = body
    if not isinstance(arguments, list | tuple):
        return "the arguments are no list"
    if not isinstance(keywords, Mapping):
        return "the keyword arguments are no mapping"
    if not isinstance(options, Mapping | None):
        return "the options are no mapping"
    return None


def _is_time_limit(value: Any) -> bool:
    if not value:
        return True
    pair = isinstance(value, list | tuple) and len(value) == 2
    return pair and all(part is None or isinstance(part, int | float) for part in value)
