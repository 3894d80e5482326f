"""Structured logging with named events, through the standard library's loggers.

An application that configures ``logging`` (or lets Celery do it) sees lines such as
``event=job_completed job_id=... job_type=email.send``; nothing is configured globally here.
"""

from __future__ import annotations

import logging
from typing import cast

import structlog


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger whose first argument is the event's name and whose keywords are its fields."""
    logger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["event"], bool_as_flag=False),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return cast("structlog.stdlib.BoundLogger", logger)
