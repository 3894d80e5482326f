"""F24: hostile messages among real jobs, and jobs of a type that only the next worker knows."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from amqp import Message as AMQPMessage
from kombu import Connection

from portico_celery.lifecycle import NO_HANDLER, TERMINAL
from portico_celery.ports.job import JobStatus
from tests.faults.conftest import Report
from tests.faults.sizes import TIMEOUT, chances, size
from tests.faults.system import System, a_system
from tests.faults.verdict import judge
from tests.integration.test_malformed_messages import Malformed, Parked, malformed
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(TIMEOUT)

MESSAGES = size(150, 1_000)
REAL_JOBS = size(40, 500)
SKEWED_JOBS = 4
LARGE_BYTES = 5_000_000
SECONDS = size(40.0, 300.0)
POOLS = ("prefork", "threads", "solo")


class Hostile:
    """Makes hostile messages by chance. Each has a case of its own, by which it is found where it was parked."""

    def __init__(self, chances: random.Random, directory: Path) -> None:
        self._chances = chances
        self._known = list(malformed(directory).values())
        self._large = 2
        self.prefix = uuid4().hex
        self.cases: set[str] = set()
        self.forged = 0

    def message(self, real_jobs: list[UUID]) -> AMQPMessage:
        """Make one; a forged knock is for one of the jobs, which it may at most wake early, or for none."""
        kind = self._chances.randrange(4)
        if kind == 0:
            self.forged += 1
            job_id = self._chances.choice([*real_jobs, uuid4()])
            return self._for_us(self._forged(job_id, self._chances.choice(["fault.work", "nobody.knows"])), "forged")
        case = f"{self.prefix} {len(self.cases)}"
        self.cases.add(case)
        if kind == 1:
            return self._for_us(self._chances.choice(self._known), case)
        if kind == 2:
            return self._for_us(Malformed(task_headers={"task": "nobody.knows"}), case)
        return self._for_us(self._garbage(), case)

    def _for_us(self, malformed: Malformed, case: str) -> AMQPMessage:
        message = malformed.message(case)
        headers: dict[str, Any] = message.properties["application_headers"]
        if headers.get("task") == "journey.succeed":
            headers["task"] = "fault.work"
        return message

    def _forged(self, job_id: UUID, task: str) -> Malformed:
        return Malformed(task_headers={"task": task, "portico": {"kind": "knock", "job_id": str(job_id)}})

    def _garbage(self) -> Malformed:
        if self._large and self._chances.random() < 0.2:
            self._large -= 1
            # Text that ends in the middle.
            return Malformed(body=json.dumps([["x" * LARGE_BYTES], {}, {}]).encode()[:-10])
        content_type = self._chances.choice(["application/json", "application/x-yaml", "application/x-msgpack"])
        body = b"\xff" + self._chances.randbytes(self._chances.randrange(1, 2_000))
        return Malformed(body=body, content_type=content_type)


def assail(system: System, hostile: Hostile, real_jobs: list[UUID]) -> None:
    """Put hostile messages into the queue of the jobs."""
    with Connection(system.broker_url) as connection:
        channel: Any = connection.default_channel
        for _ in range(MESSAGES // REAL_JOBS + 1):
            channel.basic_publish(hostile.message(real_jobs), routing_key=system.queue_name)


def has_been_put_back(system: System, job_id: UUID) -> bool:
    """Whether a worker without its handler has met the job."""
    return str(system.record(job_id).job.error_message).startswith(NO_HANDLER)


def test_hostile_messages_end_no_worker_and_harm_no_job_and_new_job_types_wait_for_new_workers(
    broker_url: str, sqlite_store: str, tmp_path: Path, report: Report
) -> None:
    with a_system(broker_url, sqlite_store, tmp_path) as system:
        system.portico.declare("fault.next", queue=system.queue_name)
        workers = [system.workers.start(pool, 2, ready=False) for pool in POOLS]
        for worker in workers:
            worker.wait_until_ready()
        hostile = Hostile(chances("F24"), tmp_path)
        real: list[UUID] = []
        for _ in range(REAL_JOBS):
            real.append(system.create(max_retries=1))
            assail(system, hostile, real)
        skewed = [system.create("fault.next", max_retries=retries % 2) for retries in range(SKEWED_JOBS)]
        with Connection(broker_url) as connection:
            parked = Parked(connection, hostile.cases)
            eventually(parked.all_there, SECONDS, system.shown)
        eventually(lambda: all(has_been_put_back(system, job_id) for job_id in skewed), SECONDS, system.shown)
        waiting = [system.record(job_id).job.status for job_id in skewed]
        following = system.workers.start("threads", 2, app="tests.faults.next_app")
        exits = [worker.name for worker in workers if not worker.running]
        for worker in workers:
            worker.stop()
        system.wait_until_all_ended(SECONDS)
        verdict = judge(system)
        records = [system.record(job_id) for job_id in skewed]
        exits += [] if following.running else [following.name]
    canary = (tmp_path / "unpickled").exists()
    report(
        "F24",
        hostile=len(hostile.cases) + hostile.forged,
        parked=parked.total,
        forged_knocks=hostile.forged,
        worker_exits=len(exits),
        pickle_canary=int(canary),
        real_jobs_lost=verdict.lost,
        skewed=len(waiting),
        skewed_ok=sum(record.job.status is JobStatus.COMPLETED for record in records),
        dup_exec=verdict.dup_exec,
    )
    assert exits == []
    assert not canary
    assert parked.total == len(hostile.cases)
    assert (verdict.ok, verdict.lost, verdict.unexpected, verdict.dup_exec) == (REAL_JOBS + SKEWED_JOBS, 0, 0, 0)
    assert not TERMINAL & set(waiting), "a worker without the handler has ended a job"
    assert [record.job.retry_count for record in records] == [0] * SKEWED_JOBS
    assert [len(record.attempts) for record in records] == [1] * SKEWED_JOBS
