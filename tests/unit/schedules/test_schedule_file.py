"""Schedules from a TOML file, or from a list in Celery's configuration."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from portico_celery.adapters.job_queue.memory_queue import MemoryJobQueueAdapter
from portico_celery.adapters.job_trigger.schedule_trigger.cron_fire_times import read_fire_times
from portico_celery.exceptions import ConfigurationError
from portico_celery.kits.job import HandlerRegistry, JobService
from portico_celery.ports.schedule import ScheduleConfig
from portico_celery.scheduling.schedule_book import ScheduleBook
from portico_celery.scheduling.schedule_file import add_configured


@cache
def jobs() -> JobService:
    registry = HandlerRegistry()
    registry.declare("report.daily")
    return JobService(MemoryJobQueueAdapter(), registry=registry, max_payload_bytes=1_000)


def read(setting: Any, book: ScheduleBook | None = None) -> dict[str, ScheduleConfig]:
    book = book or ScheduleBook(read_fire_times)
    add_configured(book, setting, check_job=jobs().check_job)
    return {schedule.name: schedule.config for schedule in book}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "schedules.toml"


WHOLE = """
# The reports.
[[schedules]]
name = "daily"
cron = "0 9 * * *"
job_type = "report.daily"
timezone = "Europe/Berlin"
queue_name = "reports"
priority = 5
misfire = "all"
max_catchup = 3
misfire_grace = 1.5
overlap = "skip"
jitter = 10
enabled = false
start_at = 2026-01-01T00:00:00Z
end_at = 2027-01-01T00:00:00+01:00
max_retries = 1

[schedules.payload]
kind = "daily"

[[schedules]]
cron = "@hourly"
job_type = "report.daily"
metadata = { team = "red" }
"""


class TestReading:
    def test_a_file_says_all_that_code_can(self, file: Path) -> None:
        file.write_text(WHOLE)
        assert read(str(file)) == {
            "daily": ScheduleConfig(
                "0 9 * * *",
                "report.daily",
                {"kind": "daily"},
                "reports",
                5,
                name="daily",
                timezone="Europe/Berlin",
                misfire="all",
                max_catchup=3,
                misfire_grace=1.5,
                overlap="skip",
                jitter=10,
                enabled=False,
                start_at=datetime(2026, 1, 1, tzinfo=UTC),
                end_at=datetime(2026, 12, 31, 23, tzinfo=UTC),
                max_retries=1,
            ),
            "report.daily @hourly": ScheduleConfig("@hourly", "report.daily", metadata={"team": "red"}),
        }

    def test_an_empty_file_has_none(self, file: Path) -> None:
        file.write_text("")
        assert read(str(file)) == {}

    def test_a_list_may_hold_configurations_and_their_settings(self) -> None:
        config = ScheduleConfig("@daily", "report.daily")
        assert set(read([config, {"cron": "@hourly", "job_type": "report.daily"}])) == {
            "report.daily @daily",
            "report.daily @hourly",
        }


A_SCHEDULE = '[[schedules]]\ncron = "@daily"\njob_type = "report.daily"\n'


class TestFaults:
    @pytest.mark.parametrize(
        ("text", "line", "fault"),
        [
            ('[[schedules]]\ncron = "0 9 * *"\njob_type = "report.daily"\n', 2, "cron: '0 9 \\* \\*' has 4 fields"),
            ('\n[[schedules]]\njob_type = "report.daily"\ncron = "0 0 31 2 *"\n', 4, "cron: .* never comes"),
            ('[[schedules]]\ncron = "@daily"\njob_type = "report.weekly"\n', 3, "no handler for job type"),
            ('[[schedules]]\ncron = "@daily"\n', 1, "job_type: is missing"),
            (
                '[[schedules]]\ncron = "@daily"\njob_type = "report.daily"\ntimezon = "UTC"\n',
                4,
                "did you mean timezone",
            ),
            (
                '[[schedules]]\ncron = "@daily"\njob_type = "report.daily"\ncolour = "red"\n',
                4,
                "colour: unknown setting",
            ),
            (
                '[[schedules]]\ncron = "@daily"\njob_type = "report.daily"\n[schedules.payload]\ncron = 1\n'
                '[[schedules]]\ncron = "@daily"\njob_type = "report.daily"\nname = "b"\npriority = "high"\n',
                10,
                "priority: must be an integer",
            ),
            (
                '[[schedules]]\ncron = "@daily"\njob_type = "report.daily"\n'
                '[[schedules]]\ncron = "@daily"\njob_type = "report.daily"\n',
                4,
                "there is a schedule 'report.daily @daily' already",
            ),
            (
                A_SCHEDULE + "payload = { since = 2026-01-01 }\n",
                4,
                r"payload\.since is a date, which JSON does not have",
            ),
            (A_SCHEDULE + "[schedules.payload]\nrows = [1, nan]\n", 4, "payload is not JSON-serialisable"),
            (A_SCHEDULE + f'payload.text = "{"x" * 1_000}"\n', 4, "payload is 1,012 bytes of JSON, and the limit is"),
            (A_SCHEDULE + "start_at = 0001-01-01T00:00:00+05:00\n", 4, "start_at: must be a time from 1970 to 9999"),
            (A_SCHEDULE + "end_at = 1969-12-31T23:59:59Z\n", 4, "end_at: must be a time from 1970 to 9999"),
            (A_SCHEDULE + 'queue_name = "my reports"\n', 4, "queue_name must be printable text without spaces"),
            (A_SCHEDULE + "max_retries = 1_001\n", 4, "max_retries must be an integer from 0 to 1000, not 1001"),
            (A_SCHEDULE + "priority = 3_000_000_000\n", 4, "priority must be an integer"),
            (A_SCHEDULE + "\nmetadata = { since = 07:30:00 }\n", 5, r"metadata\.since is a time, which JSON"),
            ('[schedule]\ncron = "@daily"\n', 1, "unknown 'schedule'"),
            ("schedules = 5\n", 1, "each schedule is a table"),
            ("schedules = [5]\n", 1, "must be a ScheduleConfig or a table"),
        ],
    )
    def test_a_fault_is_named_with_its_line(self, file: Path, text: str, line: int, fault: str) -> None:
        file.write_text(text)
        with pytest.raises(ConfigurationError, match=fault) as caught:
            read(str(file))
        assert str(caught.value).startswith(f"{file}:{line}: ")

    def test_a_file_that_is_no_toml_is_told_with_line_and_column(self, file: Path) -> None:
        file.write_text('[[schedules]]\ncron = "@daily\n')
        with pytest.raises(ConfigurationError, match=r"schedules\.toml: .*line 2, column"):
            read(str(file))

    def test_a_file_that_is_not_there(self, file: Path) -> None:
        with pytest.raises(ConfigurationError, match="can't be read: No such file"):
            read(str(file))

    def test_a_file_that_is_no_text(self, file: Path) -> None:
        file.write_bytes(b"\xff\xfe")
        with pytest.raises(ConfigurationError, match="must be UTF-8"):
            read(str(file))

    @pytest.mark.parametrize(
        ("item", "fault"),
        [
            ({"cron": "@never", "job_type": "report.daily"}, "cron: "),
            ({"cron": "@daily", "job_type": "other"}, "no handler"),
            ({"cron": "@daily", "job_type": "report.daily", "queue_name": "a b"}, "queue_name must be"),
            ({"job_type": "report.daily"}, "cron: is missing"),
            (5, "must be a ScheduleConfig"),
        ],
    )
    def test_a_fault_in_a_list_is_named_with_its_place(self, item: object, fault: str) -> None:
        with pytest.raises(ConfigurationError, match=fault) as caught:
            read([ScheduleConfig("@hourly", "report.daily"), item])
        assert str(caught.value).startswith("portico_schedules[1]: ")

    def test_a_fault_leaves_all_as_it_was(self) -> None:
        book = ScheduleBook(read_fire_times)
        with pytest.raises(ConfigurationError):
            read([ScheduleConfig("@hourly", "report.daily"), 5], book)
        assert len(book) == 0
