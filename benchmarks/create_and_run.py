"""Create and run jobs that do nothing, beside plain Celery: rates, and their ratio to plain Celery's in the same run.

    make bench ARGS="--jobs 2000 --rounds 3"

Plain Celery publishes with confirms and acknowledges late, on RabbitMQ; its tasks leave no record. Ours commits each
job to SQLite, synced to disk, and keeps its state and its result. Rounds are interleaved; the table shows medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kombu import Connection, Queue

Create = Callable[[int], None]

PAYLOAD = {"recipient": "ada@example.com", "subject": "Hello", "text": "x" * 120}
THREADS = 16


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
        rates: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            for name, rate in _round(options.jobs, Path(directory)):
                rates.setdefault(name, []).append(rate)
    _print_table(rates, options.jobs)


def _round(count: int, directory: Path) -> Iterator[tuple[str, float]]:
    from benchmarks import noop_app as apps

    _delete_queues(apps.BROKER, apps.PLAIN_QUEUE, apps.JOB_QUEUE)
    yield "create: plain, one by one", _rate(count, _plain_creates)
    yield "run: plain, threads -c 4", _run("plain", apps.PLAIN_QUEUE, directory)
    yield "create: ours, one by one", _rate(count, _single_creates)
    apps.portico.flush(60)
    yield "run: ours, threads -c 4", _run("jobs", apps.JOB_QUEUE, directory)
    for name, create in (("16 threads", _threaded_creates), ("create_jobs", _bulk_creates)):
        yield f"create: ours, {name}", _rate(count, create)
        apps.portico.flush(60)
        _delete_queues(apps.BROKER, apps.JOB_QUEUE)


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
        list(pool.map(lambda _: _single_creates(count // THREADS), range(THREADS)))


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
    try:
        for line in worker.stdout or ():
            if line.startswith("RATE "):
                return float(line.split()[1])
    finally:
        worker.terminate()
        worker.wait(30)
        log.close()
    raise RuntimeError(f"the worker of {app} ended before its jobs: {(directory / f'{app}.log').read_text()}")


def _delete_queues(broker: str, *names: str) -> None:
    with Connection(broker) as connection:
        for name in names:
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
