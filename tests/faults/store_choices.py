"""What the state machine of the stores chooses from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from portico_celery.lifecycle import Failed, Outcome, Succeeded, decide
from portico_celery.ports.job_store import Claim, ClaimedJob, Finish, Lease
from tests.faults.store_pair import LEASE, TICK

# Few, so that much happens to each.
IDS = [UUID(int=number) for number in range(1, 5)]
QUEUES = ["mail", "reports"]

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

# The methods of the state machine, and what each is called with; those that stand twice come twice as often. Single
# rules would not do: Hypothesis leaves most of them out of each example, and a job's life needs many.
_MOVES: list[tuple[str, dict[str, st.SearchStrategy[Any]]]] = [
    ("create", {"new": new_jobs}),
    ("deliver", {"places": places, "doubled": st.booleans()}),
    ("deliver", {"places": places, "doubled": st.just(False)}),
    ("adopt", {"new": new_job}),
    ("finish", {"places": places, "outcome": st.sampled_from(list(OUTCOMES)), "delay": delay, "twice": st.booleans()}),
    ("renew_leases", {"places": places}),
    ("settle_a_notice", {"place": place}),
    ("let_time_pass_and_sweep", {"pause": pause}),
    ("let_time_pass_and_sweep", {"pause": pause}),
    ("reap", {"places": places, "delay": delay}),
    ("lose_the_workers", {"delay": delay}),
    ("lose_the_workers", {"delay": delay}),
    ("cancel", {"place": place}),
    ("requeue", {"place": place}),
    ("discard", {"place": place}),
]
moves = st.one_of([st.tuples(st.just(name), st.fixed_dictionaries(arguments)) for name, arguments in _MOVES])


def claim_of(job_id: UUID, worker: str) -> Claim:
    return Claim(job_id=job_id, worker=worker, lease_seconds=LEASE)


def lease_of(held: ClaimedJob) -> Lease:
    return Lease(job_id=held.job.id, attempt=held.attempt)


def finish_of(held: ClaimedJob, outcome: Outcome, delay: int, *, expired_only: bool = False) -> Finish:
    """What its holder makes of an attempt, from what it knew when it took the job."""
    transition = decide(held.job, outcome, retry_delay=delay * TICK)
    return Finish(job_id=held.job.id, attempt=held.attempt, transition=transition, expired_only=expired_only)
