"""POST /jobs under gunicorn, beside a minimal Flask view that sends a Celery task with publisher confirms.

    make bench-webhook ARGS="--seconds 5 --rounds 3 --connections 8 32 64"

Both run in two processes of gunicorn, and check the same payload with marshmallow: the plain view by gunicorn's own
thread worker, and once more by webhook_app's settings for gunicorn. Ours also authenticates an API key, and answers
when the job's row is committed; its message follows, confirmed. What it says of each job goes to a file. The store is a
Redis of its own with appendonly, unless --store names another. Needs wrk, and a RabbitMQ (BENCH_BROKER_URL). On two
processors those settings keep each process to one of them; on more, --workers has to be as many.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kombu import Connection, Queue

from benchmarks.webhook_apps import JOB_QUEUE, PLAIN_QUEUE, app
from portico_celery.adapters.job_trigger.webhook_trigger.verification.api_keys import make_key

PAYLOAD = {"recipient": "ada@example.com", "subject": "Hello", "text": "x" * 120}
PLAIN, OURS = "plain Flask view, send_task confirmed", "webhook, durable row and confirmed knock"
PLAIN_AS_OURS = "plain Flask view, served as the webhook"
_CONFIGURED = ["-c", "python:webhook_app.gunicorn_conf"]
# What each is started with. gunicorn's own thread worker has as many threads as ours, and a socket for each process.
SYSTEMS = {
    PLAIN: ["--worker-class", "gthread", "--threads", "256", "--reuse-port", "benchmarks.webhook_apps:plain_view()"],
    PLAIN_AS_OURS: [*_CONFIGURED, "benchmarks.webhook_apps:plain_view()"],
    OURS: [*_CONFIGURED, "webhook_app:create_app()"],
}
_RATE, _P99 = re.compile(r"Requests/sec:\s+([\d.]+)"), re.compile(r"99%\s+([\d.]+)(us|ms|s)")
_COUNT = re.compile(r"(\d+) requests in")
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True, kw_only=True)
class Load:
    """What wrk does, for so many seconds."""

    script: Path
    key: str
    connections: int
    seconds: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """Requests per second; the slowest hundredth, in ms; the servers' processor time for a request, in microseconds."""

    rate: float
    p99: float
    cpu: float


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, nargs="+", default=[32], help="how many clients post at a time")
    parser.add_argument("--workers", type=int, default=2, help="how many processes of gunicorn")
    parser.add_argument("--store", help="a job store URL; without it, a Redis is started")
    parser.add_argument(
        "--limit", help="a limit per_caller of ours, counted in the Redis that is the store: 9000/second"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        store = options.store or stack.enter_context(_redis(directory))
        key, script = _prepare(directory, options.limit and {"per_caller": options.limit, "storage": store})
        processes = ["--workers", str(options.workers)]
        for connections in options.connections:
            measured: dict[str, list[Result]] = {system: [] for system in SYSTEMS}
            for _ in range(options.rounds):
                for system, arguments in SYSTEMS.items():
                    load = Load(script=script, key=key, connections=connections, seconds=options.seconds)
                    with _serving([*processes, *arguments], directory, store) as (port, pid):
                        measured[system].append(_wrk(port, pid, load))
                    _delete_queues()
            _print_table(measured, connections)


def _prepare(directory: Path, limits: Mapping[str, str] | None) -> tuple[str, Path]:
    """Write the configuration with a new key, and what wrk sends."""
    key, key_id, sha256 = make_key()
    (directory / "webhook.toml").write_text(
        'allowed_job_types = ["bench.job"]\npayload_schemas = {"bench.job" = "benchmarks.webhook_apps:Mail"}\n'
        f'[[keys]]\nid = "{key_id}"\ncaller = "bench"\nsha256 = "{sha256}"\n'
        + "".join(["[rate_limits]\n", *(f'{name} = "{value}"\n' for name, value in (limits or {}).items())])
    )
    body = json.dumps({"job_type": "bench.job", "payload": PAYLOAD})
    script = directory / "post.lua"
    script.write_text(f"wrk.method = 'POST'\nwrk.body = '{body}'\nwrk.headers['Content-Type'] = 'application/json'\n")
    return key, script


@contextmanager
def _redis(directory: Path) -> Iterator[str]:
    port = _free_port()
    command = ["redis-server", "--port", str(port), "--dir", str(directory), "--appendonly", "yes", "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:  # noqa: S603  # ours
        _wait_for(port)
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()


@contextmanager
def _serving(arguments: Sequence[str], directory: Path, store: str) -> Iterator[tuple[int, int]]:
    port = _free_port()
    environment = {
        **os.environ,
        "BENCH_STORE_URL": store,
        "PORTICO_APP": "benchmarks.webhook_apps:app",
        "PORTICO_WEBHOOK_CONFIG": str(directory / "webhook.toml"),
    }
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"]
    command += ["--access-logfile", os.devnull, "--log-level", "error", *arguments]
    said = directory / "stderr.txt"
    with said.open("wb") as log, subprocess.Popen(command, env=environment, stderr=log) as server:  # noqa: S603  # ours
        try:
            _wait_for(port, said)
            yield port, server.pid
        finally:
            server.terminate()


def _wrk(port: int, pid: int, load: Load) -> Result:
    program = shutil.which("wrk")
    if program is None:
        raise SystemExit("wrk is not on the PATH: install it")
    address = f"http://127.0.0.1:{port}/webhooks/jobs"
    command = [program, "-t1", f"-c{load.connections}", "--latency", "-s", str(load.script)]
    command += ["-H", f"Authorization: Bearer {load.key}"]
    told, warmed, before = "", 0, 0.0
    for duration in (1, 1, 1, 1, 1, load.seconds):  # to warm up, for as long as it takes the processes to start
        if duration == 1 and warmed:
            continue
        before = _cpu_seconds(pid)
        told = subprocess.run(  # noqa: S603  # ours
            [*command, f"-d{duration}s", address], capture_output=True, text=True, check=True
        ).stdout
        counted = _COUNT.search(told)
        warmed = int(counted[1]) if counted else 0
    if "Non-2xx" in told:
        raise SystemExit(f"not every request was accepted:\n{told}")
    rate, p99 = _RATE.search(told), _P99.search(told)
    if rate is None or p99 is None or not warmed:
        raise SystemExit(f"wrk said something unexpected:\n{told}")
    microseconds = (_cpu_seconds(pid) - before) / warmed * 1e6
    return Result(rate=float(rate[1]), p99=float(p99[1]) * _MILLISECONDS[p99[2]], cpu=microseconds)


def _cpu_seconds(pid: int) -> float:
    """Return what the processes of a gunicorn have used of the processors: less noisy than a rate."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    fields = [Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split() for child in children]
    return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_for(port: int, said: Path | None = None) -> None:
    for _ in range(200):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise SystemExit(f"nothing listens at port {port}\n{said.read_text() if said else ''}")


def _delete_queues() -> None:
    with Connection(app.conf.broker_url) as connection:
        for name in (PLAIN_QUEUE, JOB_QUEUE):
            Queue(name, channel=connection.default_channel).delete()


def _print_table(measured: dict[str, list[Result]], connections: int) -> None:
    base = statistics.median(result.rate for result in measured[PLAIN])
    print(f"POST /jobs, {connections} connections, {len(measured[PLAIN])} rounds: median [least..most]")  # noqa: T201
    for system, results in measured.items():
        rates = [result.rate for result in results]
        rate, spread = statistics.median(rates), f"[{min(rates):,.0f}..{max(rates):,.0f}]"
        p99, cpu = (statistics.median(getattr(result, name) for result in results) for name in ("p99", "cpu"))
        print(  # noqa: T201
            f"{system:42} {rate:8,.0f}/s {spread:16} {rate / base:5.2f} x  p99 {p99:6.1f} ms  CPU {cpu:5.0f} us"
        )


if __name__ == "__main__":
    main()
