"""The lines of the access log: what gunicorn would write, with less work."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from webhook_app.access_log import FORMAT, AccessLog

ENVIRON = {
    "REMOTE_ADDR": "10.0.0.1",
    "REQUEST_METHOD": "POST",
    "RAW_URI": "/webhooks/jobs?token=secret",
    "PATH_INFO": "/webhooks/jobs",
    "QUERY_STRING": "token=secret",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_AUTHORIZATION": "Bearer secret",
}
REQUEST = SimpleNamespace(headers=[("AUTHORIZATION", "Bearer secret")])


def log(kind: Any, access_log_format: str = FORMAT) -> Any:
    made = kind.__new__(kind)  # its __init__ would set up gunicorn's loggers for all tests
    made.cfg = Config()
    made.cfg.set("access_log_format", access_log_format)
    return made


@pytest.mark.parametrize("status", ["202 Accepted", "500", 404])
@pytest.mark.parametrize("sent", [0, 345, None])
@pytest.mark.parametrize("took", [timedelta(0), timedelta(seconds=12, microseconds=345_678)])
def test_a_line_says_what_it_would_by_gunicorns_own_log(status: str | int, sent: int | None, took: timedelta) -> None:
    response = SimpleNamespace(status=status, sent=sent, headers=[("X-Of-The-Answer", "secret")])

    ours, theirs = (FORMAT % log(kind).atoms(response, REQUEST, ENVIRON, took) for kind in (AccessLog, Logger))

    assert ours == theirs
    assert "secret" not in ours


def test_a_line_may_be_of_any_other_format() -> None:
    response = SimpleNamespace(status="200 OK", sent=1, headers=[])
    wanted = "%(q)s %({authorization}i)s %(U)s"

    atoms = log(AccessLog, wanted).atoms(response, REQUEST, {**ENVIRON, "PATH_INFO": "/a\nb"}, timedelta(0))

    assert wanted % atoms == "token=secret Bearer secret /a%0Ab"
