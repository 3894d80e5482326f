"""``celery -A shop portico jobs``, by the group that the entry point names, and once as a process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from portico_celery.adapters.job_trigger.webhook_trigger import job_document as webhook_document
from portico_celery.cli.job_text import job_document, job_summary
from portico_celery.cli.output import as_line, as_text
from portico_celery.exceptions import StoreUnavailable
from portico_celery.kits.job import SyncJobService
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_reader import JobFilter, JobPage, JobRecord
from portico_celery.ports.job_store import Claim, ClaimedJob, Finish, Transition
from tests.integration.command_line import CommandLine
from tests.integration.small_app import SmallApp
from tests.services import free_port

QUEUE = "job-commands"
NOBODYS = "8f14e45f-ceea-467f-9f6c-1e2d3a4b5c6d"
HOSTILE = "ConnectionError: it hung up\n\x1b[31m" + "x" * 80


class Commands(CommandLine):
    def __init__(self, directory: Path, *, store: str | None = None) -> None:
        super().__init__("jobs", directory, store=store)
        self.portico.declare("email.send", queue=QUEUE)

    def create(self, **payload: Any) -> str:
        return str(self.portico.sync.create_job("email.send", payload, max_retries=0).id)

    def started(self, job_id: str) -> ClaimedJob:
        """Take a job up, as a worker does."""
        claim = Claim(job_id=UUID(job_id), worker="w1", token=uuid4().hex, lease_seconds=30)
        (claimed,) = self.portico._io.get().claim(claim).result()
        assert claimed is not None
        return claimed

    def ended(self, job_id: str, status: JobStatus, error: str | None = None, **ends: Any) -> None:
        """Take a job up, and bring it to an end."""
        claimed = self.started(job_id)
        transition = Transition(status=status, retry_count=0, delay=0.0, error_message=error, **ends)
        finish = Finish(job_id=claimed.job.id, attempt=claimed.attempt, transition=transition)
        self.portico._io.get().finish(finish).result()

    def dead(self, error: str = "ConnectionError: it hung up", traceback: str | None = None) -> str:
        """Create a job and let it die."""
        job_id = self.create(to="ann@example.com")
        self.ended(job_id, JobStatus.DEAD_LETTER, error, traceback=traceback)
        return job_id

    def record(self, job_id: str) -> JobRecord:
        record = self.portico.sync.get_record(job_id)
        assert record is not None
        return record

    def status(self, job_id: str) -> str | None:
        job = self.portico.sync.get_job(job_id)
        return None if job is None else job.status.value


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    commands = Commands(tmp_path)
    yield commands
    commands.close()


def test_list_shows_jobs_by_what_they_have_to_be_like(commands: Commands) -> None:
    waiting, dead = commands.create(), commands.dead(HOSTILE)

    heads, first, second = commands.printed("list").splitlines()

    assert heads.split()[:3] == ["ID", "JOB", "TYPE"]
    assert first.startswith(f"{dead}  email.send  {QUEUE}  dead_letter  0/0")
    assert first.endswith(as_line(HOSTILE)[:57] + "...")
    assert "\x1b" not in first
    assert second.startswith(f"{waiting}  email.send  {QUEUE}  pending")
    for arguments, found in {
        ("--status", "dead_letter"): [dead],
        ("--error", "hung up"): [dead],
        ("-q", QUEUE, "-t", "email.send"): [dead, waiting],
        ("-Q", "other"): [],
        ("--since", "2020-01-01"): [dead],
        ("--until", "2020-01-01"): [],
    }.items():
        assert [job["job_id"] for job in commands.document("list", *arguments)["jobs"]] == found
    assert commands.printed("list", "-q", "other") == "There are no such jobs\n"


def test_a_long_list_comes_in_pages(commands: Commands) -> None:
    made = [commands.create(number=number) for number in range(3)]

    *_, last = commands.printed("list", "--limit", "2").splitlines()
    assert last.startswith("There are more: --cursor ")
    rest = commands.document("list", "--limit", "2", "--cursor", last.split()[-1])

    assert [job["job_id"] for job in rest["jobs"]] == made[:1]
    assert rest["next_cursor"] is None


def test_a_job_is_told_of_by_the_names_that_the_webhook_has_for_it_all(commands: Commands) -> None:
    record = commands.record(commands.dead())

    assert job_summary(record.job) == webhook_document.job_summary(record.job)
    theirs = webhook_document.job_document(record)
    ours = job_document(record, payload=True)
    assert set(ours) - set(theirs) == {"payload", "metadata", "envelope", "created_by"}
    assert set(ours["attempts"][0]) - set(theirs["attempts"][0]) == {"traceback"}


def test_show_tells_of_each_attempt_and_the_last_traceback(commands: Commands) -> None:
    job_id = commands.dead("ValueError: the first", traceback="Traceback of the first")
    commands.printed("requeue", job_id)
    commands.ended(job_id, JobStatus.DEAD_LETTER, HOSTILE, traceback="Traceback\n  File 'mail.py'\x1b[31m")

    shown = commands.printed("show", job_id)

    assert f"job_id         {job_id}\n" in shown
    assert f"error_message  ConnectionError: it hung up\n{' ' * 15} [31mxxx" in shown
    assert f"traceback      Traceback\n{' ' * 15}  File 'mail.py' [31m\n" in shown
    assert "of the first" not in shown
    assert "ValueError: the first" in shown
    assert "\x1b" not in shown
    assert [line.split()[:2] for line in shown.splitlines()[-2:]] == [["1", "w1"], ["2", "w1"]]
    attempts = commands.document("show", job_id)["attempts"]
    assert [attempt["error"] for attempt in attempts] == ["ValueError: the first", HOSTILE]
    assert attempts[0]["traceback"] == "Traceback of the first"


def test_show_tells_what_the_creator_gave_only_where_it_is_asked_for(commands: Commands) -> None:
    payload = {"to": "zoë@example.com", "half": "\ud800"}
    job_id = str(commands.portico.sync.create_job("email.send", payload, metadata={"order": 7}).id)
    commands.ended(job_id, JobStatus.COMPLETED, result_data={"sent": 1})

    assert "zoë" not in commands.printed("show", job_id)
    assert not {"payload", "metadata", "envelope"} & set(commands.document("show", job_id))
    document = commands.document("show", job_id, "--payload")
    assert [document["payload"], document["metadata"]] == [payload, {"order": 7}]
    assert document["result_data"] == {"sent": 1}
    shown = commands.printed("show", job_id, "--payload")
    assert "zoë@example.com" in shown
    assert 'result_data    {"sent": 1}' in shown
    completed_at = commands.record(job_id).job.completed_at
    assert completed_at is not None
    assert commands.printed("list").splitlines()[1].split()[-2] == as_text(completed_at)


def test_stats_counts_by_queue(commands: Commands) -> None:
    commands.create()
    commands.dead()

    heads, ours, other = commands.printed("stats", QUEUE, "other").splitlines()

    assert heads.split()[:3] == ["QUEUE", "PENDING", "RUNNING"]
    assert [line.split() for line in (ours, other)] == [[QUEUE, *"10001"], ["other", *"00000"]]
    assert commands.document("stats", QUEUE)[0]["pending_count"] == 1


def test_cancel_tells_which_it_has_cancelled(commands: Commands) -> None:
    waiting, dead = commands.create(), commands.dead()

    result = commands.run("cancel", waiting, dead, waiting)

    assert result.exit_code == 1
    assert result.output == f"{waiting} is cancelled\n{dead} is not there, runs, or has ended\n"
    assert commands.status(waiting) == "failed"
    other = commands.create()
    as_json = commands.run("cancel", other, dead, "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.output) == [{"job_id": other, "cancelled": True}, {"job_id": dead, "cancelled": False}]


def test_cancel_takes_a_job_that_runs_only_where_it_is_told_to(commands: Commands) -> None:
    running = commands.create()
    commands.started(running)

    assert commands.run("cancel", running).exit_code == 1
    assert commands.status(running) == "running"
    assert commands.printed("cancel", running, "--running") == f"{running} is cancelled\n"
    assert commands.status(running) == "failed"


def test_nothing_is_changed_where_one_of_the_ids_is_none(commands: Commands) -> None:
    waiting, dead = commands.create(), commands.dead()

    for arguments in (("cancel", waiting), ("requeue", dead), ("discard", dead)):
        assert commands.run(*arguments, "nonsense").exit_code == 2
    assert [commands.status(job_id) for job_id in (waiting, dead)] == ["pending", "dead_letter"]


def test_what_was_cancelled_is_told_also_where_the_store_then_fails(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, cancel = [commands.create(), commands.create()], SyncJobService.cancel_job

    def fails_at_last(service: SyncJobService, job_id: str, *, running: bool) -> bool:
        if job_id == ids[1]:
            raise StoreUnavailable("the store did not answer")
        return cancel(service, job_id, running=running)

    monkeypatch.setattr(SyncJobService, "cancel_job", fails_at_last)

    result = commands.run("cancel", *ids, "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout) == [{"job_id": ids[0], "cancelled": True}]
    assert "the store did not answer" in result.stderr


def test_requeue_starts_those_that_are_named_afresh(commands: Commands) -> None:
    dead, waiting = commands.dead(), commands.create()

    result = commands.run("requeue", dead, waiting, dead)

    assert (result.exit_code, result.output) == (1, "requeued: 1; not there, or not as they have to be: 1\n")
    assert commands.status(dead) == "pending"
    assert commands.document("requeue", commands.dead()) == {"requeued": 1}
    assert commands.run("requeue", waiting, "--json").exit_code == 1
    assert commands.run("requeue", waiting, "--limit", "5").exit_code == 1
    assert commands.printed("requeue", commands.dead(), commands.dead(), "--limit", "1") == "requeued: 1\n"


def test_requeue_by_conditions_asks_first(commands: Commands) -> None:
    dead = [commands.dead(), commands.dead("ValueError: no such address")]
    arguments = ("requeue", "--error", "hung up", "-q", QUEUE, "--since", "2026-01-01", "--limit", "9")

    declined = commands.run(*arguments, typed="n\n")
    assert declined.exit_code == 1
    bounds = f"of queue {QUEUE}, with error hung up, ended since 2026-01-01 00:00:00+00:00, at most 9"
    assert f"Requeue dead_letter jobs, {bounds}?" in declined.stderr
    assert [commands.status(job_id) for job_id in dead] == ["dead_letter"] * 2

    agreed = commands.run(*arguments, typed="y\n")
    assert agreed.exit_code == 0
    assert agreed.stdout.endswith("requeued: 1\n")
    assert [commands.status(job_id) for job_id in dead] == ["pending", "dead_letter"]

    commands.dead()
    assert commands.printed("requeue", "--all", "--limit", "1", "--per-second", "100", "--yes") == "requeued: 1\n"
    assert len(commands.portico.sync.list_jobs(JobFilter(status=JobStatus.DEAD_LETTER)).jobs) == 1


def test_where_nobody_can_be_asked_it_says_what_to_do(commands: Commands) -> None:
    commands.dead()

    result = commands.run("discard", "--all", typed="")

    assert result.exit_code == 2
    assert "say --yes" in result.stderr
    assert commands.document("discard", "--all", "--yes") == {"discarded": 1}


def test_a_status_goes_before_dead_letters(commands: Commands) -> None:
    dead, cancelled = commands.dead(), commands.create()
    commands.printed("cancel", cancelled)

    result = commands.run("discard", "-q", QUEUE, "--status", "failed", typed="y\n")

    assert f"Discard failed jobs, of queue {QUEUE}?" in result.stderr
    assert result.exit_code == 0
    assert [commands.status(dead), commands.status(cancelled)] == ["dead_letter", None]
    assert commands.printed("discard", dead) == "discarded: 1\n"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StoreUnavailable("the store did not answer"), "the store did not answer; 2 jobs had been requeued by then"),
        (KeyboardInterrupt(), "2 jobs had been requeued by then"),
    ],
    ids=["the store fails", "it is interrupted"],
)
def test_how_far_it_came_is_told_where_a_change_of_many_ends_early(
    commands: Commands, error: BaseException, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        commands.dead()
    steps, step = iter(range(3)), commands.portico.queue.requeue_jobs

    async def fails_at_last(wanted: JobFilter) -> JobPage:
        if next(steps) == 1:  # of two jobs each, at this pace
            raise error
        return await step(wanted)

    monkeypatch.setattr(commands.portico.queue, "requeue_jobs", fails_at_last)

    result = commands.run("requeue", "--all", "--yes", "--per-second", "20")

    assert result.exit_code == 1
    assert told in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("requeue",), 2, "say which jobs: their ids, conditions, or --all to requeue every dead letter"),
        (("discard", "--yes"), 2, "say which jobs"),
        (("discard", "--all", "-q", QUEUE, "--yes"), 2, "--all is for every dead letter"),
        (("requeue", "--all", NOBODYS), 2, "--all is for every dead letter"),
        (("requeue", "--status", "completed"), 2, "'completed' is not one of 'failed', 'dead_letter'"),
        (("discard", "--status", "running"), 2, "'running' is not one of"),
        (("show", NOBODYS), 1, f"there is no job {NOBODYS}"),
        (("show", "nonsense"), 2, "'nonsense' is not a valid UUID"),
        (("list", "--limit", "0"), 1, "limit must be from 1 to 1000"),
        (("list", "--cursor", "nonsense"), 1, "cursor"),
        (("list", "--status", "lost"), 2, "'lost' is not one of"),
        (("list", "--since", "yesterday"), 2, "'yesterday' is no date or time"),
        (("requeue", "--since", "2026-01-02", "--until", "2026-01-01"), 1, "must not be after ended_until"),
        (("stats", "no queue"), 1, "no queue"),
        (("requeue", "--all", "--per-second", "0"), 2, "--per-second"),
        (("requeue", "--all", "--limit", "0"), 2, "--limit"),
        (("requeue", *(str(UUID(int=number)) for number in range(1001))), 1, "at most 1,000 jobs"),
    ],
)
def test_what_can_not_be_done_is_told_before_anything_is_asked(
    commands: Commands, arguments: tuple[str, ...], code: int, told: str
) -> None:
    result = commands.run(*arguments)

    assert result.exit_code == code
    assert told in result.stderr
    assert "Traceback" not in result.output
    assert "[y/N]" not in result.output


@pytest.mark.parametrize(
    ("scheme", "told"),
    [("redis", "did not answer"), ("memory", "use another store, or portico.sync in that process")],
)
def test_a_store_that_can_not_be_reached_is_told_in_one_line(tmp_path: Path, scheme: str, told: str) -> None:
    store = "memory://" if scheme == "memory" else f"redis://127.0.0.1:{free_port()}/0"
    commands = Commands(tmp_path, store=store)
    try:
        for arguments in (("list",), ("show", NOBODYS), ("stats", QUEUE), ("requeue", "--all", "--yes")):
            result = commands.run(*arguments)
            assert (result.exit_code, result.output.count("\n")) == (1, 1)
            assert result.output.startswith("Error: ")
            assert told in result.output
    finally:
        commands.close()


def test_celery_finds_the_commands(tmp_path: Path) -> None:
    app = SmallApp(
        tmp_path,
        """
from celery import Celery
from portico_celery import PorticoCelery

app = Celery("shop", broker="memory://")
portico = PorticoCelery(app, store="sqlite:///jobs.db")
""",
    )
    ended = app.celery("portico", "jobs", "list", "--json")
    assert ended.returncode == 0, ended.output
    assert json.loads(ended.output) == {"jobs": [], "next_cursor": None}
