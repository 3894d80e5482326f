"""Where our events go, where nobody has said so: to stderr, as gunicorn's own."""

from __future__ import annotations

import logging
import re

LEVELS = ("debug", "info", "warning", "error")
_OURS = ("portico_celery", "webhook_app")
_QUERY = re.compile(r"\?\S*")


def log_to_stderr(level: str) -> None:
    """Write our events from ``level`` on, and the warnings of others, unless logging is configured already."""
    logging.getLogger("werkzeug").addFilter(_without_queries)
    root, *ours = (logging.getLogger(name) for name in ("", *_OURS))
    if root.handlers or any(logger.handlers or logger.level for logger in ours):
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root.addHandler(handler)
    for logger in ours:
        logger.setLevel(level.upper())


def _without_queries(record: logging.LogRecord) -> bool:
    """Take the query from each address in the lines of ``flask run``: there may be a key that does not belong there."""
    if isinstance(record.args, tuple):
        record.args = tuple(_QUERY.sub("", one) if isinstance(one, str) else one for one in record.args)
    return True
