"""``celery -A shop portico jobs``, by the group that the entry point names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_reader import JobFilter
from portico_celery.ports.job_store import Claim, Finish, Transition
from tests.integration.command_line import CommandLine
from tests.services import free_port

QUEUE = "job-commands"


class Commands(CommandLine):
    def __init__(self, directory: Path, *, store: str | None = None) -> None:
        super().__init__("jobs", directory, store=store)
        self.portico.declare("email.send", queue=QUEUE)

    def create(self, **payload: Any) -> str:
        return str(self.portico.sync.create_job("email.send", payload, max_retries=0).id)

    def dead(self, error: str = "ConnectionError: it hung up", traceback: str | None = None) -> str:
        """Create a job and let it die, as a worker does."""
        job_id = self.create(to="ann@example.com")
        io = self.portico._io.get()
        (claimed,) = io.claim(Claim(job_id=UUID(job_id), worker="w1", token="t", lease_seconds=30)).result()
        assert claimed is not None
        transition = Transition(
            status=JobStatus.DEAD_LETTER, retry_count=0, delay=0.0, error_message=error, traceback=traceback
        )
        io.finish(Finish(job_id=claimed.job.id, attempt=claimed.attempt, transition=transition)).result()
        return job_id

    def status(self, job_id: str) -> str | None:
        job = self.portico.sync.get_job(job_id)
        return None if job is None else job.status.value


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    commands = Commands(tmp_path)
    yield commands
    commands.close()


def test_list_shows_jobs_by_what_they_have_to_be_like(commands: Commands) -> None:
    waiting, dead = commands.create(), commands.dead("ConnectionError: it hung up\n\x1b[31m" + "x" * 80)

    heads, first, second = commands.printed("list").splitlines()

    assert heads.split()[:3] == ["ID", "JOB", "TYPE"]
    assert first.startswith(f"{dead}  email.send  {QUEUE}  dead_letter  0/0")
    assert first.endswith("...")
    assert "\x1b" not in first
    assert second.startswith(f"{waiting}  email.send  {QUEUE}  pending")
    for arguments, found in {
        ("--status", "dead_letter"): [dead],
        ("--error", "hung up"): [dead],
        ("-q", QUEUE, "-t", "email.send"): [dead, waiting],
        ("-q", "other"): [],
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


def test_show_tells_of_each_attempt_and_of_the_payload_only_where_it_is_asked_for(commands: Commands) -> None:
    dead = commands.dead(traceback="Traceback\n  File 'mail.py'\nConnectionError: it hung up")

    shown = commands.printed("show", dead)

    assert f"job_id         {dead}" in shown
    assert "status         dead_letter" in shown
    assert "error_message  ConnectionError: it hung up" in shown
    assert "  File 'mail.py'" in shown
    assert shown.count("w1") == 1
    assert "ann@example.com" not in shown
    assert "payload" not in commands.document("show", dead)
    assert commands.document("show", dead, "--payload")["payload"] == {"to": "ann@example.com"}
    assert 'payload        {"to": "ann@example.com"}' in commands.printed("show", dead, "--payload")
    assert commands.document("show", dead)["attempts"][0]["error"] == "ConnectionError: it hung up"


def test_stats_counts_by_queue(commands: Commands) -> None:
    commands.create()
    commands.dead()

    heads, ours, other = commands.printed("stats", QUEUE, "other").splitlines()

    assert heads.split()[:3] == ["QUEUE", "NAME", "PENDING"]
    assert [line.split()[:2] for line in (ours, other)] == [[QUEUE, "1"], ["other", "0"]]
    assert commands.document("stats", QUEUE)[0]["pending_count"] == 1


def test_cancel_tells_which_it_has_cancelled(commands: Commands) -> None:
    waiting, dead = commands.create(), commands.dead()

    result = commands.run("cancel", waiting, dead)

    assert result.exit_code == 1
    assert result.output == f"{waiting} is cancelled\n{dead} is not there, runs, or has ended\n"
    assert commands.status(waiting) == "failed"
    assert commands.printed("cancel", commands.create()).endswith("is cancelled\n")


def test_requeue_starts_those_that_are_named_afresh(commands: Commands) -> None:
    dead, waiting = commands.dead(), commands.create()

    result = commands.run("requeue", dead, waiting)

    assert (result.exit_code, result.output) == (1, "1 jobs requeued; 1 are not there, or in no state for that\n")
    assert commands.status(dead) == "pending"
    assert commands.document("requeue", commands.dead()) == {"requeued": 1}


def test_requeue_by_conditions_asks_first(commands: Commands) -> None:
    dead = [commands.dead(), commands.dead("ValueError: no such address")]

    declined = commands.run("requeue", "--error", "hung up", typed="n\n")
    assert declined.exit_code == 1
    assert "Requeue dead_letter jobs: error_contains hung up?" in declined.output
    assert [commands.status(job_id) for job_id in dead] == ["dead_letter"] * 2

    agreed = commands.run("requeue", "--error", "hung up", typed="y\n")
    assert agreed.exit_code == 0
    assert agreed.output.endswith("1 jobs requeued\n")
    assert [commands.status(job_id) for job_id in dead] == ["pending", "dead_letter"]

    commands.dead()
    assert commands.printed("requeue", "--all", "--limit", "1", "--per-second", "100", "--yes") == "1 jobs requeued\n"
    assert len(commands.portico.sync.list_jobs(JobFilter(status=JobStatus.DEAD_LETTER)).jobs) == 1


def test_discard_deletes(commands: Commands) -> None:
    dead, cancelled = commands.dead(), commands.create()
    commands.printed("cancel", cancelled)

    assert commands.printed("discard", "-q", QUEUE, "--yes") == "1 jobs discarded\n"
    assert [commands.status(dead), commands.status(cancelled)] == [None, "failed"]
    assert commands.printed("discard", cancelled) == "1 jobs discarded\n"
    assert commands.status(cancelled) is None


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("requeue",), 2, "say which jobs: their ids, conditions, or --all to requeue every dead letter"),
        (("discard", "--yes"), 2, "say which jobs"),
        (("show", "8f14e45f-ceea-467f-9f6c-1e2d3a4b5c6d"), 1, "there is no job 8f14e45f"),
        (("show", "nonsense"), 1, "nonsense"),
        (("cancel", "nonsense"), 1, "nonsense"),
        (("requeue", "nonsense"), 1, "nonsense"),
        (("list", "--limit", "0"), 1, "limit must be from 1 to 1000"),
        (("list", "--cursor", "nonsense"), 1, "cursor"),
        (("list", "--status", "lost"), 2, "'lost' is not one of"),
        (("list", "--since", "yesterday"), 2, "'yesterday' is no date or time"),
        (("list", "--since", "2026-01-02", "--until", "2026-01-01"), 1, "must not be after ended_until"),
        (("stats", "no queue"), 1, "no queue"),
        (("requeue", "--all", "--yes", "--per-second", "0"), 1, "per_second must be a number above 0"),
        (("requeue", *(str(uuid4()) for _ in range(1001))), 1, "at most 1,000 jobs"),
    ],
)
def test_what_can_not_be_done_is_told(commands: Commands, arguments: tuple[str, ...], code: int, told: str) -> None:
    result = commands.run(*arguments)

    assert result.exit_code == code
    assert told in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("store", "told"),
    [
        (f"redis://127.0.0.1:{free_port()}/0", "did not answer"),
        ("memory://", "use another store, or portico.sync in that process"),
    ],
    ids=["redis", "memory"],
)
def test_a_store_that_can_not_be_reached_is_told_in_one_line(tmp_path: Path, store: str, told: str) -> None:
    commands = Commands(tmp_path, store=store)
    try:
        for arguments in (("list",), ("show", str(uuid4())), ("stats", QUEUE), ("requeue", "--all", "--yes")):
            result = commands.run(*arguments)
            assert (result.exit_code, result.output.count("\n")) == (1, 1)
            assert result.output.startswith("Error: ")
            assert told in result.output
    finally:
        commands.close()
