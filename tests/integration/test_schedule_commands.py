"""``celery -A shop portico schedules``, by the group that the entry point names, and once as a process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner

from portico_celery import ScheduleConfig
from portico_celery.cli import portico as group
from portico_celery.event_loop import wait
from portico_celery.ports.job_reader import JobFilter
from portico_celery.ports.schedule_store import FirstSight
from tests.integration.command_line import CommandLine
from tests.integration.small_app import SmallApp
from tests.services import free_port


class Commands(CommandLine):
    def __init__(self, directory: Path, *, store: str | None = None) -> None:
        super().__init__("schedules", directory, store=store)
        self.portico.declare("report.daily", queue="schedule-commands")
        self.file = directory / "schedules.toml"


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    commands = Commands(tmp_path)
    commands.portico.schedule(ScheduleConfig("30 2 * * *", "report.daily", name="nightly", timezone="Europe/Berlin"))
    commands.portico.schedule(ScheduleConfig("@hourly", "report.daily", name="hourly"))
    yield commands
    commands.close()


def test_list_tells_how_each_stands(commands: Commands) -> None:
    heads, hourly, nightly = commands.printed("list").splitlines()
    assert heads.split("  ")[0] == "NAME"
    assert hourly.startswith("hourly   @hourly     UTC            report.daily  active  -")
    assert nightly.startswith("nightly  30 2 * * *  Europe/Berlin  report.daily  active  -")
    found = {one["name"]: one for one in commands.document("list")}
    assert set(found) == {"hourly", "nightly"}
    assert found["hourly"] == found["hourly"] | {"state": "active", "last_fire": None, "created": 0, "missed": 0}
    assert datetime.fromisoformat(found["hourly"]["next_fire"]) > datetime.now(UTC)


def test_next_shows_the_zone_and_utc(commands: Commands) -> None:
    heads, *rows = commands.printed("next", "nightly", "-n", "3").splitlines()
    assert heads.split() == ["Europe/Berlin", "UTC"]
    assert len(rows) == 3
    for row in rows:
        local, utc = map(datetime.fromisoformat, row.split())
        assert local == utc
        assert utc.utcoffset() == timedelta()
    assert commands.document("next", "nightly", "-n", "1")[0]["utc"] == rows[0].split()[1]


def test_pause_and_resume(commands: Commands) -> None:
    assert commands.printed("pause", "hourly") == "hourly is paused\n"
    assert commands.printed("pause", "hourly") == "hourly is paused, as it was\n"
    assert {one["name"]: one["state"] for one in commands.document("list")} == {
        "hourly": "paused",
        "nightly": "active",
    }
    assert commands.document("resume", "hourly") == {"name": "hourly", "paused": False, "changed": True}
    assert commands.printed("resume", "hourly") == "hourly was not paused\n"
    commands.printed("pause", "hourly")
    assert commands.printed("resume", "hourly") == "hourly is no longer paused\n"


def test_forget_makes_it_new_and_takes_a_name_that_was_removed(commands: Commands) -> None:
    commands.printed("pause", "hourly")
    assert commands.printed("forget", "hourly") == "hourly is forgotten\n"
    assert commands.printed("forget", "nightly") == "nightly: nothing was remembered\n"
    assert {one["state"] for one in commands.document("list")} == {"active"}
    met = FirstSight(name="removed", settled_until=datetime.now(UTC))
    wait(commands.portico.service.schedules(lambda store: store.begin([met])))
    assert commands.document("forget", "removed") == {"name": "removed", "forgotten": True}


def test_restart_counts_from_now_on(commands: Commands) -> None:
    told = commands.printed("restart", "hourly")
    assert told.startswith(f"hourly counts from {datetime.now(UTC):%Y-%m-%dT}")
    document = commands.document("restart", "hourly")
    assert f"next fire: {document['next_fire']}" in told
    assert datetime.fromisoformat(document["next_fire"]) > datetime.now(UTC)
    assert commands.run("restart", "weekly").exit_code == 1


def test_run_makes_a_job_now(commands: Commands) -> None:
    made = commands.document("run", "nightly")
    job = commands.portico.sync.get_job(made["job_id"])
    assert job is not None
    assert job.metadata["schedule"] == "nightly"
    assert f"nightly: job {job.id}" not in commands.printed("run", "nightly"), "each time another"
    jobs = commands.portico.sync.list_jobs(JobFilter()).jobs
    assert len(jobs) == 2
    found = {one["name"]: one for one in commands.document("list")}["nightly"]
    assert (found["last_fire"], found["last_job_id"], found["created"]) == (None, str(jobs[0].id), 0)


def test_backfill_makes_up_for_a_range_once(commands: Commands) -> None:
    options = ("backfill", "nightly", "--from", "2026-10-24T00:00+02:00", "--to", "2026-10-26")
    assert commands.printed(*options) == "nightly: 2 fire times, 2 jobs created, 0 there already\n"
    assert [(one["scheduled_for"], one["created"]) for one in commands.document(*options)] == [
        ("2026-10-24T00:30:00+00:00", False),
        ("2026-10-25T00:30:00+00:00", False),
    ]


def test_lint_warns_and_is_content(commands: Commands) -> None:
    output = commands.printed("lint")
    assert "nightly: the clocks of Europe/Berlin skip one of its times" in output
    assert "All schedules can be run; 1 warnings" in output
    assert [one["name"] for one in commands.document("lint")] == ["nightly"]


def test_a_fault_in_the_file_is_told_with_its_line(commands: Commands) -> None:
    commands.file.write_text('[[schedules]]\njob_type = "report.daily"\ncron = "61 * * * *"\n')
    commands.app.conf.portico_schedules = str(commands.file)
    result = commands.run("lint")
    assert result.exit_code == 1
    assert f"Error: {commands.file}:3: cron: '61 * * * *' can't be read" in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("pause", "weekly"), 1, "there is no schedule 'weekly' (known: 'hourly', 'nightly')"),
        (("next", "hourly", "-n", "0"), 1, "count must be from 1"),
        (("backfill", "hourly", "--from", "2020-01-01", "--to", "2026-01-01"), 1, "10,000 fire times"),
        (("backfill", "hourly", "--from", "yesterday", "--to", "today"), 2, "'yesterday' is no date or time"),
        (
            ("backfill", "hourly", "--from", "0001-01-01", "--to", "2026-01-01"),
            1,
            "start must be a time from 1970 to 9999",
        ),
        (
            ("backfill", "hourly", "--from", "2026-01-01", "--to", "9999-12-31T23:00-05:00"),
            1,
            "end must be a time from 1970 to 9999",
        ),
        (("backfill", "hourly", "--from", "2026-01-02", "--to", "2026-01-01"), 1, "the range ends, with 2026-01-01"),
        (("backfill", "hourly", "--from", "2026-01-01"), 2, "--to"),
        (("forget", "weekly"), 1, "there is no schedule 'weekly' (known: 'hourly', 'nightly')"),
    ],
)
def test_what_can_not_be_done_is_told(commands: Commands, arguments: tuple[str, ...], code: int, told: str) -> None:
    result = commands.run(*arguments)
    assert result.exit_code == code
    assert told in result.output
    assert "Traceback" not in result.output


def test_an_empty_book_is_told(tmp_path: Path) -> None:
    commands = Commands(tmp_path)
    try:
        for command in ("list", "lint"):
            assert commands.printed(command) == "There are no schedules\n"
            assert commands.document(command) == []
        assert "there is no schedule 'hourly' (known: none)" in commands.run("next", "hourly").output
    finally:
        commands.close()


def test_one_that_fires_no_more_is_told(commands: Commands) -> None:
    ended = ScheduleConfig("@daily", "report.daily", name="ended", end_at=datetime(2020, 1, 1, tzinfo=UTC))
    commands.portico.schedule(ended)
    assert commands.printed("next", "ended") == "ended fires no more: its end_at has passed\n"
    assert commands.document("next", "ended") == []


@pytest.mark.parametrize(
    ("store", "told"),
    [
        ("postgresql://nobody@127.0.0.1:{port}/shop", "did not answer"),
        ("redis://127.0.0.1:{port}/0", "did not answer"),
        ("sqlite:////no-such-directory/jobs.db", "did not answer"),
        ("memory://", "a job store in memory is one process's own"),
    ],
    ids=["postgresql", "redis", "sqlite", "memory"],
)
def test_a_store_that_can_not_be_reached_is_told_in_one_line(tmp_path: Path, store: str, told: str) -> None:
    commands = Commands(tmp_path, store=store.format(port=free_port()))
    commands.portico.schedule(ScheduleConfig("@hourly", "report.daily", name="hourly"))
    try:
        for command in ("list", "pause", "resume", "run", "forget", "backfill"):
            name = () if command == "list" else ("hourly",)
            dates = ("--from", "2026-01-01", "--to", "2026-01-02") if command == "backfill" else ()
            result = commands.run(command, *name, *dates, "--json")
            assert (result.exit_code, result.output.count("\n"), type(result.exception)) == (1, 1, SystemExit)
            assert result.output.startswith("Error: ")
            assert told in result.output
        assert commands.document("next", "hourly", "-n", "1")
        assert commands.document("lint") == []
    finally:
        commands.close()


def test_an_app_without_portico_is_told() -> None:
    app = Celery("plain", broker="memory://", set_as_current=False)
    result = CliRunner().invoke(group, ["schedules", "list"], obj=CLIContext(app=app, no_color=True, workdir=None))
    assert result.exit_code == 1
    assert "has no PorticoCelery(app): name yours by celery -A" in result.output


def test_celery_finds_the_commands(tmp_path: Path) -> None:
    app = SmallApp(
        tmp_path,
        """
from celery import Celery
from portico_celery import PorticoCelery, ScheduleConfig

app = Celery("shop", broker="memory://")
portico = PorticoCelery(app, store="sqlite:///jobs.db")
portico.declare("report.daily")
portico.schedule(ScheduleConfig("@daily", "report.daily"))
""",
    )
    ended = app.celery("portico", "schedules", "list", "--json")
    assert ended.returncode == 0, ended.output
    assert [one["name"] for one in json.loads(ended.output)] == ["report.daily @daily"]
