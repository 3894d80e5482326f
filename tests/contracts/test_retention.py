"""Every job store deletes what ended long ago, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from portico_celery.lifecycle import Failed, Succeeded, decide
from portico_celery.ports.job_store import DEFAULT_RESULT_TTL, Lease
from tests.contracts.stores import SERVERS, STORES, StoreUnderTest, a_job


@pytest.fixture(params=STORES)
def jobs(request: pytest.FixtureRequest) -> Iterator[StoreUnderTest]:
    place = request.getfixturevalue(SERVERS.get(request.param, "tmp_path"))
    with STORES[request.param](place) as under_test:
        yield under_test


def test_a_job_that_ended_long_ago_is_deleted_with_its_history(jobs: StoreUnderTest) -> None:
    claimed = jobs.take(a_job())
    jobs.finish(claimed, decide(claimed.job, Failed(error=ValueError("no"), retryable=False)))

    jobs.advance(DEFAULT_RESULT_TTL * 1.01)
    jobs.sweep()

    assert jobs.store.get(claimed.job.id) is None
    assert jobs.store.stats("default").failed_count == 0


def test_a_job_that_ended_lately_is_kept(jobs: StoreUnderTest) -> None:
    claimed = jobs.take(a_job())
    jobs.finish(claimed, decide(claimed.job, Succeeded(result_data={})))

    jobs.advance(DEFAULT_RESULT_TTL * 0.99)
    jobs.sweep()

    assert jobs.store.get(claimed.job.id) is not None


def test_an_old_job_that_has_not_ended_is_kept(jobs: StoreUnderTest) -> None:
    [waiting] = jobs.insert(a_job())
    running = jobs.take(a_job())

    jobs.advance(DEFAULT_RESULT_TTL * 2)
    jobs.sweep()

    assert jobs.store.get(waiting.id) is not None
    assert jobs.store.get(running.job.id) is not None


def test_a_dead_letter_whose_handler_has_not_heard_of_its_end_is_kept_until_it_has(jobs: StoreUnderTest) -> None:
    dead = jobs.lose(jobs.take(a_job(max_retries=0)))

    jobs.advance(DEFAULT_RESULT_TTL * 1.5)
    assert jobs.knocked() == {dead.id}
    claimed = jobs.claim(dead.id)
    assert claimed is not None

    jobs.store.settle_loss(Lease(job_id=dead.id, attempt=claimed.attempt))
    jobs.advance(120)
    jobs.sweep()
    assert jobs.store.get(dead.id) is None
