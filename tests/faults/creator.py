"""A client whose processes die right after their commit: a job is stored, and nobody has knocked for it.

    python -m tests.faults.creator SEED ID ID ...

Each id is created in a process of its own; chance says which die.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from celery import Celery

from portico_celery import PorticoCelery
from portico_celery.ports.job import Job
from portico_celery.ports.job_store import JobStore
from tests.faults.ledger import accept, note

T = TypeVar("T")
Insert = Callable[..., list[tuple[Job, bool]]]

DIED = 3


def main(seed: str, job_ids: Sequence[str]) -> None:
    """Create the jobs."""
    chances = random.Random(seed)  # noqa: S311  # a test that can be repeated
    for job_id in job_ids:
        dies = chances.random() < 0.5
        child = os.fork()
        if child == 0:
            _create(UUID(job_id), dies=dies)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != (DIED if dies else 0):
            raise SystemExit(f"creating {job_id} ended with {status}")


def _create(job_id: UUID, *, dies: bool) -> None:
    directory = Path(os.environ["FAULT_DIRECTORY"])
    app = Celery("creator", broker=os.environ["FAULT_BROKER"])
    portico = MortalPortico(app, store=os.environ["FAULT_STORE"])
    portico.after_insert = lambda: _die(directory, job_id) if dies else None
    app.conf.portico_knock_seconds = float(os.environ["FAULT_KNOCK"])
    portico.declare("fault.work", queue=os.environ["FAULT_QUEUE"])
    portico.sync.create_job("fault.work", {}, job_id=job_id)
    note(directory, "committed", job_id, 1)
    accept(directory, [job_id])
    portico.close()


def _die(directory: Path, job_id: UUID) -> None:
    # What is committed must run, though its client never heard that it was accepted.
    note(directory, "committed", job_id, 0)
    accept(directory, [job_id])
    os._exit(DIED)


class MortalPortico(PorticoCelery):
    """Calls ``after_insert`` when a job has been committed and before anything else happens."""

    after_insert: Callable[[], None] = staticmethod(lambda: None)

    def _make_store(self) -> JobStore:
        store = super()._make_store()
        insert: Insert = store.insert

        def insert_and_call(jobs: Sequence[Job], *, knock_seconds: float) -> list[tuple[Job, bool]]:
            stored = insert(jobs, knock_seconds=knock_seconds)
            self.after_insert()
            return stored

        store.insert = insert_and_call  # type: ignore[method-assign]
        return store


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
