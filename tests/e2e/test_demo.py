"""The demo, as a user starts, stops and kills it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.demo_process import ROOT, demo
from tests.e2e.slow_server import slow_server

STEP = re.compile(
    r"^\d\d:\d\d:\d\d\.\d{3}  (?P<id>[0-9a-f]{8})  (?P<type>[\w.]+) {2,}(?P<step>[a-z_]+( [a-z]+)?)", re.M
)
CURL = re.compile(r"^curl .*$", re.M)

TRIED = ["started", "on_failure", "retrying"]


def steps_by_job(printed: str) -> dict[str, list[str]]:
    steps = defaultdict(list)
    for found in STEP.finditer(printed):
        steps[f"{found['type']} {found['id']}"].append(found["step"])
    return steps


def test_once_ends_by_itself_and_shows_every_step_of_every_job(tmp_path: Path) -> None:
    with demo(tmp_path, "--once") as process:
        assert process.exit_code() == 0, process.printed
        printed = process.printed

    mailed = ("email.send", ["created", "started", "mail", "completed"])
    # A job may start before its creator has said that it is created.
    steps = {name: sorted(steps) for name, steps in steps_by_job(printed).items()}
    fired = [name for name in steps if "fired" in steps[name]]
    # Where a minute has ended meanwhile, there is another.
    assert steps[fired[0]] == sorted(["fired", "started", "mail", "completed"])
    assert len(fired) <= 2
    shown = sorted((name.split()[0], steps[name]) for name in steps if name not in fired)
    assert shown == sorted(
        (job_type, sorted(steps))
        for job_type, steps in [
            mailed,
            mailed,
            ("data.import", ["created", *TRIED, *TRIED, "started", "imported", "completed"]),
            ("email.unreachable", ["created", *TRIED, *TRIED, "started", "on_failure", "dead letter"]),
        ]
    )
    assert re.search(r"refused +400: .*payload", printed)
    assert "-> 400 Some fields of the request are wrong. {'payload': ['Must be a JSON object.']}" in printed
    assert "schedule 'orders-report', for 20" in printed
    assert "All 5 jobs have ended as they should, and the bad request was refused." in printed
    assert len(CURL.findall(printed)) == 3
    assert not re.search(r"Traceback|WARNING|ERROR|\033", printed), printed


@pytest.mark.skipif(shutil.which("curl") is None, reason="it is about the curl lines")
def test_it_stays_up_and_its_curl_lines_work(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        process.wait_for("It stays up until Ctrl-C")
        mail, bad, show = CURL.findall(process.printed)

        accepted = subprocess.run(["sh", "-c", mail], capture_output=True, text=True, check=True).stdout
        job_id = accepted.partition('"job_id": "')[2].partition('"')[0]
        process.wait_for(f"{job_id[:8]}  email.send +completed")
        assert " 400 " in subprocess.run(["sh", "-c", bad], capture_output=True, text=True, check=True).stdout
        shown = subprocess.run(["sh", "-c", show], capture_output=True, text=True, check=True).stdout
        assert json.loads(shown)["status"] == "completed"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_when_the_jobs_in_hand_have_ended(tmp_path: Path, number: int) -> None:
    with slow_server() as server, demo(tmp_path) as process:
        process.wait_for("It stays up until Ctrl-C")
        job_id = process.post("data.import", source_url=server.url)
        process.wait_for(f"{job_id[:8]}  data.import +started")

        process.signal(number)
        server.answer(200)

        assert process.exit_code() == 0, process.printed
        assert re.search(f"{job_id[:8]}  data.import +completed", process.printed)
        assert "Traceback" not in process.printed


def test_a_second_interrupt_stops_it_at_once(tmp_path: Path) -> None:
    with slow_server() as server, demo(tmp_path) as process:
        job_id = process.post("data.import", source_url=server.url)
        process.wait_for(f"{job_id[:8]}  data.import +started")

        process.signal(signal.SIGINT)
        process.wait_for("Ctrl-C again stops at once")
        process.signal(signal.SIGINT)

        assert process.exit_code(within=10) == 128 + signal.SIGINT


def test_once_says_so_when_it_is_interrupted_before_the_end(tmp_path: Path) -> None:
    with demo(tmp_path, "--once") as process:
        process.wait_for("a mail with a bad payload")
        process.signal(signal.SIGINT)

        assert process.exit_code() == 1
        assert "Stopped before every job had ended." in process.printed


def test_killed_and_started_again_it_goes_on_with_the_open_jobs(tmp_path: Path) -> None:
    with slow_server() as server:
        with demo(tmp_path) as process:
            running = process.post("data.import", source_url=server.url)
            process.wait_for(f"{running[:8]}  data.import +started")
            # Not before this process has ended, and soon enough for the next one to wait for it.
            soon = datetime.now(UTC) + timedelta(seconds=7)
            mail = {"recipient": "ana@example.org", "subject": "Your order", "body": "It is on its way."}
            scheduled = process.post("email.send", scheduled_at=soon.isoformat(), **mail)
            process.kill()
        server.answer(200)

        with demo(tmp_path, "--once") as process:
            assert process.exit_code() == 0, process.printed
            printed = process.printed

    assert re.search(f"^  {running}  data.import +running$", printed, re.M)
    assert re.search(f"{running[:8]}  data.import +worker lost +attempt 1 died with demo@", printed)
    assert re.search(f"{running[:8]}  data.import +completed", printed)
    assert re.search(f"^  {scheduled}  email.send +scheduled$", printed, re.M)
    assert re.search(f"{scheduled[:8]}  email.send +completed", printed)


def test_once_fails_and_says_which_job_did_not_end_as_it_should(tmp_path: Path) -> None:
    with slow_server() as server:
        with demo(tmp_path) as process:
            wrong = process.post("data.import", source_url=server.url)
            process.wait_for(f"{wrong[:8]}  data.import +started")
            process.kill()
        server.answer(404)

        with demo(tmp_path, "--once") as process:
            assert process.exit_code() == 1, process.printed
            assert f"NOT AS IT SHOULD BE: {wrong} (data.import, left open) is failed" in process.printed


def test_a_job_for_much_later_does_not_hold_it_up(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        process.wait_for("It stays up until Ctrl-C")
        next_month = datetime.now(UTC) + timedelta(days=30)
        later = process.post("email.send", scheduled_at=next_month.isoformat())
        process.kill()

    with demo(tmp_path, "--once") as process:
        assert process.exit_code() == 0, process.printed
        assert re.search(f"{later}  email.send +scheduled, for later", process.printed)


def test_it_goes_on_when_nobody_reads_its_output_any_more(tmp_path: Path) -> None:
    command = f"{sys.executable} -m portico_celery demo --once | head -n 1; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PORT": "", "PORTICO_DEMO_DIR": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_taken_port_is_a_clear_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with demo(tmp_path, "--once", PORT=str(port)) as process:
            assert process.exit_code() == 2
            assert process.printed == (
                f"The demo can't start: port {port} is taken by another program: name another one by PORT, "
                "or leave PORT out and a free one is chosen\n"
            )


def test_the_port_is_the_one_that_is_asked_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with demo(tmp_path, PORT=str(port)) as process:
        assert process.wait_for(r"The webhook is at http://127\.0\.0\.1:(\d+)/") == str(port)


@pytest.mark.parametrize("port", ["eighty", "-1", "65536"])
def test_what_is_no_port_is_a_clear_error(tmp_path: Path, port: str) -> None:
    with demo(tmp_path, PORT=port) as process:
        assert process.exit_code() == 2
        assert process.printed == f"The demo can't start: PORT must be a number from 0 to 65535, not '{port}'\n"


def test_a_directory_that_can_not_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with demo(tmp_path / "file" / "directory") as process:
        assert process.exit_code() == 2
        assert "name another one by PORTICO_DEMO_DIR" in process.printed


@pytest.mark.parametrize("missing", ["examples", "flask", "aiosmtpd", "aiohttp"])
def test_without_the_examples_or_an_extra_it_says_what_to_do(missing: str) -> None:
    # None there is what makes an import fail.
    program = f"import sys; sys.modules[{missing!r}] = None; from portico_celery.__main__ import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, "demo"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2, done.stderr
    assert f"The demo needs '{missing}'" in done.stderr
    assert "make demo" in done.stderr
    assert "Traceback" not in done.stderr
