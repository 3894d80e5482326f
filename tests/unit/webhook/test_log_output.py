"""What webhook_app says on stderr. In processes of their own: here pytest has configured logging."""

from __future__ import annotations

import subprocess
import sys

SAY = """
import logging
{before}
from webhook_app.log_output import log_to_stderr
log_to_stderr({level!r})
for name in ("portico_celery.adapters", "webhook_app.health", "kombu"):
    for level in ("debug", "info", "warning"):
        getattr(logging.getLogger(name), level)("%s of %s", level, name)
"""


def heard(level: str, before: str = "") -> list[str]:
    """Return the lines that are heard."""
    program = SAY.format(level=level, before=before)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return done.stderr.splitlines()


def said(level: str, before: str = "") -> list[str]:
    """Return what is heard, each line without its time."""
    return [line.split(maxsplit=2)[2] for line in heard(level, before)]


def test_our_events_are_heard_from_the_level_on_and_of_others_warnings() -> None:
    assert said("info") == [
        "INFO info of portico_celery.adapters",
        "WARNING warning of portico_celery.adapters",
        "INFO info of webhook_app.health",
        "WARNING warning of webhook_app.health",
        "WARNING warning of kombu",
    ]
    assert "DEBUG debug of webhook_app.health" in said("debug")
    assert "INFO info of webhook_app.health" not in said("warning")


def test_logging_that_is_configured_already_stays_as_it_is() -> None:
    before = "logging.basicConfig(format='a b MINE %(message)s')"

    assert said("info", before) == [
        "MINE warning of portico_celery.adapters",
        "MINE warning of webhook_app.health",
        "MINE warning of kombu",
    ]


def test_nor_is_anything_done_where_only_our_own_loggers_are_configured() -> None:
    before = "logging.getLogger('portico_celery').addHandler(logging.StreamHandler())"

    # No line is there twice, and none of others by us.
    assert sum("warning of portico_celery.adapters" in line for line in heard("info", before)) == 1
    assert not any("info of webhook_app" in line for line in heard("info", before))
    quiet = "logging.getLogger('portico_celery').setLevel('ERROR')"
    assert not any("portico_celery" in line for line in heard("info", quiet))


def test_flask_s_own_server_logs_no_query() -> None:
    program = """
import logging
logging.basicConfig(level="INFO")
from webhook_app.log_output import log_to_stderr
log_to_stderr("info")
from werkzeug._internal import _log
_log("info", '%s - - [%s] "%s" %s', "127.0.0.1", "now", "GET /jobs?key=pk_secret HTTP/1.1", 401)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert '"GET /jobs HTTP/1.1" 401' in done.stderr
    assert "pk_secret" not in done.stderr
