"""What the demo shows: every step of a job as one line, from the package's own log events."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, TextIO

from portico_celery.utils.logging import fields_of

# The event, the step that it is, and what else is said of it.
_STEPS: Mapping[str, tuple[str, str]] = {
    "job_created_from_webhook": ("created", ""),
    "job_created_from_schedule": ("fired", "schedule {schedule!r}, for {scheduled_for}"),
    "job_started": ("started", "attempt {attempt}"),
    "mail_received": ("mail", "the mail server takes {subject!r} for {recipient}"),
    "import_completed": ("imported", "{records_imported} orders"),
    "email_job_failed": ("on_failure", "its handler is told, retry_count={retry_count}"),
    "import_job_failed": ("on_failure", "its handler is told, retry_count={retry_count}"),
    "job_retrying": ("retrying", "in {delay:.1f} s, after {error}"),
    "job_completed": ("completed", ""),
    "job_failed": ("failed", "{error}"),
    "job_dead_letter": ("dead letter", "{error}"),
    "worker_lost": ("worker lost", "attempt {attempt} died with {worker}"),
    "invalid_webhook_request": ("refused", "{status}: {error} {fields}"),
}
# The demo serves this machine alone, and says so itself.
_SAID_OTHERWISE = frozenset({"webhook_without_authentication"})
_GREEN, _YELLOW, _RED = "32", "33", "31"
_COLOURS: Mapping[str, str] = {
    "completed": _GREEN,
    "on_failure": _YELLOW,
    "retrying": _YELLOW,
    "failed": _RED,
    "dead letter": _RED,
    "worker lost": _RED,
    "refused": _RED,
}
_SHOWN_ID_CHARS = 8
_MOST_DETAIL_CHARS = 150


class StepFormatter(logging.Formatter):
    """Writes a known event as a step, and anything else as it is."""

    def __init__(self, *, colours: bool) -> None:
        super().__init__()
        self._colours = colours
        # Some events tell only the job's id.
        self._job_types: dict[str, str] = {}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = fields_of(record)
        if fields is None or fields["event"] not in _STEPS:
            return super().format(record)
        job_id = str(fields.get("job_id", ""))
        job_type = fields.get("job_type") or self._job_types.get(job_id, "")
        self._job_types[job_id] = job_type
        step, details = _STEPS[fields["event"]]
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        return (
            f"{moment}.{int(record.msecs):03}  {job_id[:_SHOWN_ID_CHARS]:{_SHOWN_ID_CHARS}}  {job_type:17}  "
            f"{self._coloured(step, f'{step:11}')}  {_filled(details, fields)}"
        ).rstrip()

    def _coloured(self, step: str, text: str) -> str:
        colour = _COLOURS.get(step) if self._colours else None
        return text if colour is None else f"\033[{colour}m{text}\033[0m"


def _filled(details: str, fields: Mapping[str, Any]) -> str:
    text = details.format_map(defaultdict(str, fields))
    # One line, whatever an error's message holds.
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= _MOST_DETAIL_CHARS else f"{line[:_MOST_DETAIL_CHARS]}..."


class _StepHandler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        # Whoever read along has gone (demo | head): no reason to stop, nor to complain of it at every step.
        if not isinstance(sys.exception(), BrokenPipeError):
            super().handleError(record)


def _is_shown(record: logging.LogRecord) -> bool:
    fields = fields_of(record)
    if fields is None:
        return True
    return fields["event"] in _STEPS or (record.levelno >= logging.WARNING and fields["event"] not in _SAID_OTHERWISE)


def show_steps(stream: TextIO) -> None:
    """Show steps, and what the demo itself says, on ``stream``; of all others, warnings on standard error."""
    handler = _StepHandler(stream)
    handler.setFormatter(StepFormatter(colours=stream.isatty() and not os.environ.get("NO_COLOR")))
    handler.addFilter(_is_shown)
    for name in ("portico_celery", "webhook_app", "examples"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        logger.propagate = False
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # A line for each request, and a traceback for each job that failed: the steps say it already.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    logging.getLogger("celery.app.trace").setLevel(logging.CRITICAL)
