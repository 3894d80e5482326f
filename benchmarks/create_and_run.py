"""Create and run jobs that do nothing, beside plain Celery: rates, and their ratio to plain Celery's in the same run.

    make bench ARGS="--jobs 2000 --rounds 3"

Plain Celery publishes with confirms and acknowledges late, on RabbitMQ, and keeps its results in Redis
(BENCH_BROKER_URL, BENCH_RESULT_URL). Ours commits each job to its store, on SQLite synced to disk, and keeps its state,
its result and its history there. Rounds are interleaved; the table shows medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

from kombu import Connection, Queue

Create = Callable[[int], None]

PAYLOAD = {"recipient": "ada@example.com", "subject": "Hello", "text": "x" * 120}
THREADS = 16
# A run that takes longer has lost some of its jobs, and ends in an error.
RUN_SECONDS = 300.0


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--store", help="a job store URL; without it, SQLite in a temporary directory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        os.environ["BENCH_STORE_URL"] = options.store or f"sqlite:///{directory}/bench.db"
        os.environ["BENCH_JOBS"] = str(options.jobs)
        os.environ["BENCH_RUN"] = uuid4().hex
        rates: dict[str, list[float]] = {}
        try:
            for _ in range(options.rounds):
                for name, rate in _round(options.jobs, Path(directory)):
                    rates.setdefault(name, []).append(rate)
        finally:
            _delete_queues()
    _print_table(rates, options.jobs)


def _round(count: int, directory: Path) -> Iterator[tuple[str, float]]:
    from benchmarks import noop_app as apps

    yield "create: plain, one by one", _rate(count, _plain_creates)
    yield "run: plain, threads -c 4", _run("plain", apps.PLAIN_QUEUE, directory)
    for name, create in (
        ("one by one", _single_creates),
        (f"{THREADS} threads", _threaded_creates),
        ("create_jobs", _bulk_creates),
    ):
        yield f"create: ours, {name}", _rate(count, create)
        apps.portico.flush(60)
        yield "run: ours, threads -c 4", _run("jobs", apps.JOB_QUEUE, directory)


def _plain_creates(count: int) -> None:
    from benchmarks import noop_app as apps

    for _ in range(count):
        apps.plain.send_task("bench.plain", kwargs=PAYLOAD, queue=apps.PLAIN_QUEUE)


def _single_creates(count: int) -> None:
    from benchmarks import noop_app as apps

    for _ in range(count):
        apps.portico.sync.create_job("bench.job", PAYLOAD)


def _threaded_creates(count: int) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(_single_creates, [1] * count))


def _bulk_creates(count: int) -> None:
    from benchmarks import noop_app as apps

    apps.portico.sync.create_jobs([{"job_type": "bench.job", "payload": PAYLOAD}] * count)


def _rate(count: int, create: Create) -> float:
    began = time.perf_counter()
    create(count)
    return count / (time.perf_counter() - began)


def _run(app: str, queue: str, directory: Path) -> float:
    command = [
        *(sys.executable, "-m", "celery", "-A", f"benchmarks.noop_app:{app}", "worker"),
        *("--pool", "threads", "-c", "4", "-Q", queue, "-l", "ERROR", "--prefetch-multiplier", "16"),
        *("--without-gossip", "--without-mingle"),
    ]
    log = (directory / f"{app}.log").open("w")
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)  # noqa: S603  # our own words
    patience = threading.Timer(RUN_SECONDS, worker.kill)
    patience.start()
    try:
        for line in worker.stdout or ():
            if line.startswith("RATE "):
                return float(line.split()[1])
    finally:
        patience.cancel()
        worker.terminate()
        worker.wait(30)
        log.close()
    raise RuntimeError(
        f"the worker of {app} did not get to the end of its jobs: {(directory / f'{app}.log').read_text()}"
    )


def _delete_queues() -> None:
    # Not between rounds: a plain client that has declared its queue once loses what it sends after that.
    from benchmarks import noop_app as apps

    with Connection(apps.BROKER) as connection:
        for name in (apps.PLAIN_QUEUE, apps.JOB_QUEUE):
            Queue(name, channel=connection.default_channel).delete()


def _print_table(rates: dict[str, list[float]], count: int) -> None:
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{count} jobs, medians; the ratio is to plain Celery's rate of the same kind")  # noqa: T201
    for name, median in medians.items():
        kind = name.partition(":")[0]
        plain = next(value for other, value in medians.items() if other.startswith(f"{kind}: plain"))
        low, high = min(rates[name]), max(rates[name])
        print(f"{name:28} {median:9.0f}/s   {median / plain:5.2f}   ({low:.0f}..{high:.0f})")  # noqa: T201


if __name__ == "__main__":
    main()
