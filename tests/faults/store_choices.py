"""What the state machine of the stores chooses from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from portico_celery.lifecycle import Failed, Outcome, Succeeded, decide
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_reader import JobFilter
from portico_celery.ports.job_store import Claim, ClaimedJob, Finish, Lease, Postponement
from tests.faults.store_pair import LEASE, TICK

# Few, so that much happens to each.
IDS = [UUID(int=number) for number in range(1, 5)]
QUEUES = ["mail", "reports"]
JOB_TYPE = "email.send"

OUTCOMES: dict[str, Outcome] = {
    "success": Succeeded(result_data={"sent": True}),
    "failure": Failed(error=ConnectionError("the mail server hung up"), traceback="Traceback: ..."),
    "final failure": Failed(error_message="no such mailbox", retryable=False, result_data={"code": 550}),
}


@dataclass(frozen=True)
class NewJob:
    """A job as a caller makes it. ``start`` is so many ticks ahead; one before now has passed."""

    job_id: UUID
    queue_name: str
    max_retries: int
    start: int | None


UNTIL_DUE = -1  # a pause until the next job falls due
OUTLASTING = 10_000  # a pause after which a job that has ended need not be kept

# A place in a list of candidates, the likeliest first.
place = st.sampled_from([0, 0, 0, 1, 1, 2, 3, 5])
places = st.lists(place, min_size=1, max_size=3)
# For how long a job may be without a handler, in ticks.
patience = st.sampled_from([0, 0, 3, 3, 100])
# In ticks.
delay = st.sampled_from([0, 0, 1, 5])
pause = st.sampled_from([0, 1, 3, 3, 3, 10, UNTIL_DUE, UNTIL_DUE, UNTIL_DUE, OUTLASTING])

new_job = st.builds(
    NewJob,
    job_id=st.sampled_from(IDS),
    queue_name=st.sampled_from(QUEUES),
    max_retries=st.sampled_from([0, 0, 1, 3]),
    start=st.sampled_from([None, None, None, -1, 1, 10]),
)
new_jobs = st.lists(new_job, min_size=1, max_size=4)

# Whom an operator may mean: a few of what has ended, of one kind or of any.
filters = st.builds(
    JobFilter,
    queue_name=st.sampled_from([None, None, None, *QUEUES]),
    status=st.sampled_from([None, None, JobStatus.DEAD_LETTER, JobStatus.FAILED, JobStatus.RUNNING]),
    error_contains=st.sampled_from([None, None, None, "mail server", "%"]),
    job_ids=st.sampled_from([None, None, None, tuple(IDS[:2])]),
    limit=st.sampled_from([1, 2, 100]),
)

# The methods of the state machine, and what each is called with; those that stand twice come twice as often. Single
# rules would not do: Hypothesis leaves most of them out of each example, and a job's life needs many.
_MOVES: list[tuple[str, dict[str, st.SearchStrategy[Any]]]] = [
    ("create", {"new": new_jobs}),
    ("deliver", {"places": places, "doubled": st.booleans()}),
    ("deliver", {"places": places, "doubled": st.just(False)}),
    ("adopt", {"new": new_job}),
    ("ask_again", {"places": places}),
    ("finish_again", {"places": places}),
    ("finish", {"places": places, "outcome": st.sampled_from(list(OUTCOMES)), "delay": delay, "twice": st.booleans()}),
    ("renew_leases", {"places": places}),
    ("meet_without_a_handler", {"places": places, "patience": patience, "forged": st.just(False)}),
    ("meet_without_a_handler", {"places": places, "patience": patience, "forged": st.booleans()}),
    ("settle_a_notice", {"place": place}),
    ("let_time_pass_and_sweep", {"pause": pause}),
    ("let_time_pass_and_sweep", {"pause": pause}),
    ("reap", {"places": places, "delay": delay}),
    ("lose_the_workers", {"delay": delay}),
    ("lose_the_workers", {"delay": delay}),
    ("cancel", {"place": place, "running": st.booleans()}),
    ("requeue", {"place": place}),
    ("discard", {"place": place}),
    ("requeue_many", {"wanted": filters}),
    ("requeue_many", {"wanted": filters}),
    ("discard_many", {"wanted": filters}),
]
moves = st.one_of([st.tuples(st.just(name), st.fixed_dictionaries(arguments)) for name, arguments in _MOVES])


def claim_of(job_id: UUID, worker: str) -> Claim:
    return Claim(job_id=job_id, worker=worker, lease_seconds=LEASE)


def postponement_of(job_id: UUID, patience: int, *, forged: bool) -> Postponement:
    """What a worker asks for that has no handler for a job, or where a forged message says it is of another type."""
    job_type = "nobody.knows" if forged else JOB_TYPE
    return Postponement(job_id=job_id, job_type=job_type, worker="worker-4", patience=patience * TICK)


def lease_of(held: ClaimedJob) -> Lease:
    return Lease(job_id=held.job.id, attempt=held.attempt)


def finish_of(held: ClaimedJob, outcome: Outcome, delay: int, *, expired_only: bool = False) -> Finish:
    """What its holder makes of an attempt, from what it knew when it took the job."""
    transition = decide(held.job, outcome, retry_delay=delay * TICK)
    return Finish(job_id=held.job.id, attempt=held.attempt, transition=transition, expired_only=expired_only)
