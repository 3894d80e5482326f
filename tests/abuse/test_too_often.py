"""Row 49: a caller that posts too often is told when to come back, whichever process it comes to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.abuse.case import JOBS, JSON, REPORT, Story, body, create, in_order
from tests.abuse.figures import Record
from tests.abuse.outcome import assert_clean, outcome_of
from tests.abuse.server import Answer
from tests.abuse.target import Target, a_target
from tests.postgresql import own_schema

ALLOWED = 20
BEYOND = 5
SENT = ALLOWED + BEYOND
HOUR = 3_600


@pytest.fixture(scope="module")
def limited(
    amqp_url: str, postgres_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    directory, limit = tmp_path_factory.mktemp("limited"), f"{ALLOWED}/hour"
    with (
        own_schema(postgres_url) as store,
        a_target(directory, broker=amqp_url, store=store, redis=redis_url, per_caller=limit) as target,
    ):
        yield target


def one_after_the_other(target: Target) -> list[Answer]:
    """Post, each time by a connection of its own."""
    return [target.server.send("POST", JOBS, body(REPORT), [JSON, target.as_other]) for _ in range(SENT)]


def at_once(target: Target) -> list[Answer]:
    """Post as one that does not wait."""
    with ThreadPoolExecutor(SENT) as threads:
        return list(
            threads.map(lambda _: target.server.send("POST", JOBS, body(REPORT), [JSON, target.as_hasty]), range(SENT))
        )


def wrong_quotas(answers: Sequence[Answer]) -> list[str]:
    """Expect each answer to say that one less is left."""
    told = [(answer.headers["ratelimit-limit"], int(answer.headers["ratelimit-remaining"])) for answer in answers]
    right = [(str(ALLOWED), left) for left in (*reversed(range(ALLOWED)), *[0] * BEYOND)]
    return [*([f"quotas {told}"] if told != right else []), *wrong_times(answers)]


def wrong_times(answers: Sequence[Answer]) -> list[str]:
    """Expect whole seconds until there is room again, and a refusal to say the same of when to come back."""
    resets = [answer.headers["ratelimit-reset"] for answer in answers]
    waits = [answer.headers["retry-after"] for answer in answers if answer.status == 429]
    wrong = [text for text in (*resets, *waits) if not re.fullmatch("[0-9]+", text) or not 0 < int(text) <= HOUR]
    return [f"seconds {wrong}"] if wrong else []


def wrong_number(answers: Sequence[Answer]) -> list[str]:
    """Expect as many to be accepted as are allowed, in whatever order."""
    accepted = sum(answer.status == 202 for answer in answers)
    return [*([f"{accepted} accepted"] if accepted != ALLOWED else []), *wrong_times(answers)]


def test_a_caller_gets_exactly_what_it_is_allowed_from_all_processes_together(
    limited: Target, record_property: Record
) -> None:
    before = limited.job_ids()
    cases = [
        Story(49, "in turn", one_after_the_other, in_order(*[202] * ALLOWED, *[429] * BEYOND), ALLOWED, wrong_quotas),
        Story(49, "at once", at_once, [(202, 429)] * SENT, ALLOWED, wrong_number),
        Story(49, "another", lambda target: [create(body(REPORT))(target)], in_order(202), 1, wrong_times),
    ]

    outcome = outcome_of(cases, limited)

    created_by_one = limited.server.send("GET", "/health/triggers").document["webhook"]["jobs_created_count"]
    assert 0 < created_by_one < limited.rows(), "one process has done it all"
    assert_clean(outcome, limited, before, record_property)
