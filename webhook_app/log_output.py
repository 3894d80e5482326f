"""Where our events go, where nobody has said so: to stderr, as gunicorn's own."""

from __future__ import annotations

import logging

LEVELS = ("debug", "info", "warning", "error")
_OURS = ("portico_celery", "webhook_app")


def log_to_stderr(level: str) -> None:
    """Write our events from ``level`` on, and the warnings of others, unless logging is configured already."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root.addHandler(handler)
    for name in _OURS:
        logging.getLogger(name).setLevel(level.upper())
