"""F20: a store, or who creates in it, is killed and started again in the midst of creates. No test of power cuts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.accepted_rows import judge_creates
from tests.faults.conftest import Report
from tests.faults.creating_clients import Answers, creating, is_accepted, is_refused
from tests.faults.creating_process import CreatingProcess
from tests.faults.sizes import TIMEOUT, chances, size
from tests.faults.system import System, a_system
from tests.postgresql import PrivatePostgreSQL
from tests.services import PrivateRedis

pytestmark = pytest.mark.timeout(TIMEOUT)

KILLS = size(1, 10)
CREATES_BETWEEN = size(80, 500)
SECONDS = 60.0


def kill_again_and_again(system: System, server: PrivatePostgreSQL | PrivateRedis, store: str, report: Report) -> None:
    with creating(system.portico, system.directory, chances(f"F20 {store} killed")) as answers:
        for _ in range(KILLS):
            answers.wait_for(is_accepted, CREATES_BETWEEN, SECONDS)
            server.kill()
            server.start()
        answers.wait_for(is_accepted, CREATES_BETWEEN, SECONDS)
    judge_creates(system, answers, report, store=store, kills=KILLS)
    assert any(map(is_refused, answers.all)), "nobody noticed the fault"


def test_an_accepted_job_has_its_row_though_postgresql_was_killed(
    broker_url: str, private_postgresql: Callable[..., PrivatePostgreSQL], tmp_path: Path, report: Report
) -> None:
    server = private_postgresql()
    with a_system(broker_url, server.url, tmp_path) as system:
        kill_again_and_again(system, server, "postgresql", report)


def test_an_accepted_job_has_its_row_though_redis_was_killed(
    broker_url: str, private_redis: Callable[..., PrivateRedis], tmp_path: Path, report: Report
) -> None:
    server = private_redis(appendfsync="always")
    with a_system(broker_url, server.url, tmp_path) as system:
        kill_again_and_again(system, server, "redis", report)


def test_an_accepted_job_has_its_row_in_sqlite_though_its_creator_was_killed(
    broker_url: str, sqlite_store: str, tmp_path: Path, report: Report
) -> None:
    answers, chance = Answers(tmp_path), chances("F20 sqlite killed")
    with a_system(broker_url, sqlite_store, tmp_path) as system:
        for _ in range(KILLS):
            with CreatingProcess(system, chance.randrange(1_000_000)) as creator:
                answers.wait_for(is_accepted, CREATES_BETWEEN, SECONDS)
                creator.kill()
        # And from here, without repairing anything.
        with creating(system.portico, system.directory, chance):
            answers.wait_for(is_accepted, CREATES_BETWEEN, SECONDS)
        judge_creates(system, answers, report, store="sqlite", creators_killed=KILLS)
        assert not any(map(is_refused, answers.all))
