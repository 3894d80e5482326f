"""A job may take longer than the broker waits for an acknowledgement: it runs once, and so do those behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.integration.small_app import ready
from tests.integration.worker_process import POOLS, Journey, Worker, a_journey
from tests.services import PrivateRabbitMQ

PATIENCE_SECONDS = 5
LONG_SECONDS = 12.5
SECONDS = 40.0
BEHIND = 5


def workers_of_all_pools(journey: Journey) -> dict[str, Worker]:
    return {pool: journey.worker(pool, concurrency=1, queues=f"jobs.{pool}") for pool in POOLS}


def test_a_job_longer_than_the_brokers_patience_runs_once_and_so_do_those_behind_it(
    private_rabbitmq: Callable[..., PrivateRabbitMQ], tmp_path: Path
) -> None:
    node = private_rabbitmq(config={"consumer_timeout": str(PATIENCE_SECONDS * 1_000), "channel_tick_interval": "1000"})
    # All pools at once, since what takes long is waiting.
    with (
        a_journey(node.url, tmp_path) as journey,
        ready((workers := workers_of_all_pools(journey)).values()),
    ):
        jobs = {
            pool: [
                journey.create("journey.succeed", {"seconds": seconds}, queue_name=f"jobs.{pool}")
                for seconds in (LONG_SECONDS, *[0] * BEHIND)
            ]
            for pool in POOLS
        }
        for pool, worker in workers.items():
            long, behind = jobs[pool][0], jobs[pool][1]
            for job_id in jobs[pool]:
                assert journey.completed(job_id, SECONDS).job.retry_count == 0, pool
            # The patience did come to its end: what waited behind the long job was taken from the worker.
            journey.eventually(lambda w=worker, j=behind: w.received(j) > 1, f"a second delivery in {pool}")  # type: ignore[misc]
            # The long job itself was acknowledged when it was taken up.
            assert worker.received(long) == 1, worker.log_tail
            assert worker.running, pool
        starts = sorted(line.job_id for line in journey.ledger(kind="start"))
        assert starts == sorted(str(job_id) for pool in POOLS for job_id in jobs[pool]), journey.shown()
