"""Structured logging with named events, through the standard library's loggers.

An application that configures ``logging`` (or lets Celery do it) sees lines such as
``event=job_completed job_id=... job_type=email.send``; nothing is configured globally here. A handler that wants the
event and its fields apart takes them from the record by :func:`fields_of`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

import structlog

_ATTRIBUTE = "portico_fields"
_as_logfmt = structlog.processors.LogfmtRenderer(key_order=["event"], bool_as_flag=False)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger whose first argument is the event's name and whose keywords are its fields."""
    logger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            _render,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return cast("structlog.stdlib.BoundLogger", logger)


def fields_of(record: logging.LogRecord) -> Mapping[str, Any] | None:
    """Return what a record of these loggers says, its event's name under ``event``; None for any other record."""
    return getattr(record, _ATTRIBUTE, None)


def _render(
    logger: Any, name: str, event_dict: structlog.typing.EventDict
) -> tuple[tuple[str], dict[str, dict[str, Any]]]:
    fields = dict(event_dict)
    return (_as_logfmt(logger, name, event_dict),), {"extra": {_ATTRIBUTE: fields}}
