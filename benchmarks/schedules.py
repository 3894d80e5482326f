"""How late a schedule's jobs are created, and what schedules cost that are not due.

Lateness: a real ``celery beat`` on a SQLite store; by how much each job's row was committed after its fire time.
Cost: ticks of one beat in which one schedule is due, beside many that are not, each number in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from celery import Celery

from portico_celery import PorticoCelery, ScheduleConfig
from portico_celery.ports.job import Job
from portico_celery.ports.job_reader import JobFilter

_ROOT = Path(__file__).resolve().parents[1]
_STORE, _EVERY, _NUMBER = "BENCH_STORE", "BENCH_EVERY", "BENCH_NUMBER"
_TICKS = 200


class Every:
    """Fires at whole multiples of some seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def after(self, moment: datetime) -> datetime:
        """Return the next one."""
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        number = (moment - epoch) // timedelta(seconds=self._seconds) + 1
        return epoch + number * timedelta(seconds=self._seconds)


def make_app() -> Celery:
    """Make what ``celery -A benchmarks.schedules beat`` runs."""
    app = Celery("schedules", broker="memory://", set_as_current=False)
    portico = PorticoCelery(app, store=os.environ[_STORE])
    portico.declare("report")
    # For the cost, one job for each look at it, however slow the machine is; for the lateness, all of them.
    alone = os.environ[_NUMBER] == "0"
    config = ScheduleConfig(
        "* * * * *", "report", name="each", misfire="all" if alone else "once", misfire_grace=30.0 if alone else 0.0
    )
    portico.schedule(config, fire_times=Every(float(os.environ[_EVERY])))
    for number in range(int(os.environ[_NUMBER])):
        # Each on a day of its own, and none of them soon.
        day = datetime.now(UTC) + timedelta(days=30 + number % 300)
        cron = f"{number % 60} {number // 60 % 24} {day.day} {day.month} *"
        portico.schedule(ScheduleConfig(cron, "report", name=f"schedule {number}", timezone="Europe/Berlin"))
    return app


def measure_lateness(fires: int, every: float) -> None:
    """Run a beat until it has fired often enough; print the lateness."""
    with tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, _STORE: f"sqlite:///{directory}/jobs.db", _EVERY: str(every), _NUMBER: "0"}
        os.environ.update(environment)
        command = [sys.executable, "-m", "celery", "-A", "benchmarks.schedules", "beat", "-s", f"{directory}/beat"]
        beat = subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603  # our own
        try:
            jobs = _wait_for_jobs(fires, fires * every)
        finally:
            beat.send_signal(signal.SIGTERM)
            beat.wait()
    late = sorted(_lateness(job) * 1_000 for job in jobs[:fires])
    print(  # noqa: T201  # this is what it is for
        f"lateness of {fires} fires, one each {every} s: "
        f"p50={_percentile(late, 50):.1f} ms p99={_percentile(late, 99):.1f} ms max={late[-1]:.1f} ms "
        f"early={sum(one < 0 for one in late)}"
    )


def _wait_for_jobs(fires: int, seconds: float) -> list[Job]:
    portico: PorticoCelery = make_app().portico  # type: ignore[attr-defined]  # as PorticoCelery has put it there
    time.sleep(seconds)
    while True:
        # The first may have been made up for.
        jobs = [*reversed(portico.sync.list_jobs(JobFilter(limit=1_000)).jobs)][1:]
        if len(jobs) >= fires:
            portico.close()
            return jobs
        time.sleep(1)


def _lateness(job: Job) -> float:
    assert job.created_at is not None, "a stored job has it"  # noqa: S101  # for the type checker
    return (job.created_at - datetime.fromisoformat(job.metadata["scheduled_for"])).total_seconds()


def _percentile(ordered: Sequence[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def measure_cost(number: int) -> None:
    """Run one beat's ticks beside so many schedules that are not due; print what they cost."""
    before = _memory()
    with tempfile.TemporaryDirectory() as directory:
        os.environ.update({_STORE: f"sqlite:///{directory}/jobs.db", _EVERY: "0.05", _NUMBER: str(number)})
        portico: PorticoCelery = make_app().portico  # type: ignore[attr-defined]  # as PorticoCelery has put it there
        asyncio.run(_tick(portico, number, before))
        portico.close()


async def _tick(portico: PorticoCelery, number: int, before: float) -> None:
    began = time.perf_counter()
    runner = portico.schedule_runner()
    await runner.tick()
    start = time.perf_counter() - began
    idle: list[float] = []
    due: list[float] = []
    while len(due) < _TICKS:
        made = runner.health.jobs_created
        began = time.perf_counter()
        wait = await runner.tick()
        took = (time.perf_counter() - began) * 1_000
        (due if runner.health.jobs_created > made else idle).append(took)
        await asyncio.sleep(wait if len(idle) > _TICKS else 0)
    print(  # noqa: T201  # this is what it is for
        f"{number:>6} schedules not due: start={start:.2f} s memory=+{_memory() - before:.0f} MB "
        f"tick with nothing due={_median(idle):.3f} ms tick with one due={_median(due):.2f} ms"
    )


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fires", type=int, default=200, help="how many fires to measure the lateness of")
    parser.add_argument("--every", type=float, default=0.25, help="seconds between them")
    parser.add_argument("--schedules", type=int, nargs="*", default=[100, 1_000, 10_000], help="how many at once")
    parser.add_argument("--cost-of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cost_of is not None:
        measure_cost(arguments.cost_of)
        return
    measure_lateness(arguments.fires, arguments.every)
    for number in arguments.schedules:
        command = [sys.executable, "-m", "benchmarks.schedules", "--cost-of", str(number)]
        subprocess.run(command, cwd=_ROOT, check=True)  # noqa: S603  # our own


if __name__ == "__main__":
    main()
elif _STORE in os.environ:
    app = make_app()
