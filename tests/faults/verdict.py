"""What the ledgers and the store say of a run, in the words of Jepsen's checkers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

from portico_celery.lifecycle import TERMINAL
from portico_celery.ports.job import JobStatus
from tests.faults.ledger import Ledger, Line, percentile
from tests.faults.system import System

GOOD = frozenset({JobStatus.COMPLETED})


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The figures of a run.

    ``lost`` were accepted and have no terminal row; ``unexpected`` ended otherwise than they may, or were never asked
    for; ``dup_exec`` are starts beyond one for each job; ``disorder`` are starts of an attempt that had begun before.
    """

    acked: int
    ok: int
    lost: int
    unexpected: int
    starts: int
    dup_exec: int
    disorder: int
    max_starts: int


def judge(system: System, *, ends: Collection[JobStatus] = GOOD, attempted: Collection[str] = ()) -> Verdict:
    """Judge a run. ``ends`` are the states that a job may end in, ``attempted`` ids that may be there unaccepted."""
    accepted, rows, counts = set(system.ledger.accepted), system.jobs(), system.ledger.start_counts()
    terminal = {job_id for job_id, job in rows.items() if job.status in TERMINAL}
    well = {job_id for job_id in terminal if rows[job_id].status in ends}
    strangers = (set(rows) | set(counts)) - accepted - set(attempted)
    return Verdict(
        acked=len(accepted),
        ok=len(accepted & well),
        lost=len(accepted - terminal),
        unexpected=len(terminal - well) + len(strangers),
        starts=counts.total(),
        dup_exec=counts.total() - len(counts),
        disorder=_disorder(system.ledger),
        max_starts=max(counts.values(), default=0),
    )


def _disorder(ledger: Ledger) -> int:
    last: dict[str, int] = {}
    found = 0
    for line in ledger.starts:
        found += line.attempt <= last.get(line.job_id, 0)
        last[line.job_id] = max(line.attempt, last.get(line.job_id, 0))
    return found


def stale_ends(ledger: Ledger) -> int:
    """Count the ends that handlers came to beyond one for each job: the store must have refused them."""
    ends = ledger.ends
    return len(ends) - len({line.job_id for line in ends})


def recovery_p99(system: System) -> float:
    """Return how long a killed run's job waited for its next start, in 99 of 100 cases."""
    ended = {(line.job_id, line.attempt) for line in system.ledger.ends}
    by_job: dict[str, list[Line]] = {}
    for line in system.ledger.starts:
        by_job.setdefault(line.job_id, []).append(line)
    waits = []
    for lines in by_job.values():
        for lost, again in pairwise(lines):
            killed_at = [kill.at for kill in system.workers.kills if lost.pid in kill.pids and kill.at >= lost.at]
            if (lost.job_id, lost.attempt) not in ended and killed_at:
                waits.append(again.at - killed_at[0])
    return percentile(waits, 0.99)
