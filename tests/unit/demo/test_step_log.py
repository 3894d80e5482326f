"""What the demo's lines look like."""

from __future__ import annotations

import logging
import re
from uuid import uuid4

import pytest

from portico_celery.demo.step_log import StepFormatter
from portico_celery.utils.logging import fields_of, get_logger


@pytest.fixture
def record(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    """Return what was logged last, of a job that was retried."""
    with caplog.at_level(logging.INFO):
        get_logger("portico_celery.trial").warning(
            "job_retrying", job_id=str(uuid4()), job_type="email.send", delay=1.0, error="Refused: no\n\033[2Jway"
        )
    return caplog.records[-1]


def test_a_record_keeps_its_event_and_fields_beside_its_text(record: logging.LogRecord) -> None:
    fields = fields_of(record)
    assert fields is not None
    assert (fields["event"], fields["job_type"], fields["delay"]) == ("job_retrying", "email.send", 1.0)
    assert record.getMessage().startswith("event=job_retrying job_id=")


def test_other_records_have_no_fields() -> None:
    assert fields_of(logging.makeLogRecord({"msg": "hello"})) is None


def test_a_step_is_one_line_whatever_the_error_holds(record: logging.LogRecord) -> None:
    line = StepFormatter(colours=False).format(record)
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3}  [0-9a-f]{8}  email\.send         retrying     in 1\.0 s, after Refused: no  \[2Jway",
        line,
    )


def test_colours_only_wrap_the_step(record: logging.LogRecord) -> None:
    plain = StepFormatter(colours=False).format(record)
    coloured = StepFormatter(colours=True).format(record)
    assert coloured == plain.replace("retrying   ", "\033[33mretrying   \033[0m")


def test_what_is_no_step_is_shown_as_it_is() -> None:
    assert StepFormatter(colours=True).format(logging.makeLogRecord({"msg": "hello"})) == "hello"
