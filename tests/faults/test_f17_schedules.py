"""F17: three beats, killed again and again; a broker that restarts, clocks that are set, a year with both nights."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from celery import Celery

from portico_celery import PorticoCelery
from portico_celery.ports.job import Job
from portico_celery.ports.job_reader import JobFilter
from portico_celery.ports.schedule import ScheduleConfig
from tests import cron_oracle
from tests.faults.conftest import Report
from tests.faults.sizes import TIMEOUT, chances, size
from tests.integration.small_app import SmallApp
from tests.integration.worker_process import Beat
from tests.schedule_simulation import FailingJobs, Simulation
from tests.services import PrivateRabbitMQ
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(TIMEOUT)

# Their clocks change at 2 or 3 in the morning, at midnight, by half an hour, and at a quarter to.
ZONES = ("Europe/Berlin", "America/New_York", "Africa/Cairo", "Australia/Lord_Howe", "Pacific/Chatham")
LINES = size(
    ("30 2 * * *", "*/20 1-3 * * 0", "0 0 L * *", "45 * 29 * *"),
    ("30 2 * * *", "*/10 1-3 * * *", "*/30 * * * *", "5 * * * 1-5"),
)
YEAR = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
#: How many ticks a beat lives, on the average.
LIFE = size(100, 1_000)

WINDOW = size(9, 120)
KILL_SECONDS = size(3, 10)
BEATS = 3


@dataclass(frozen=True)
class Counts:
    """What became of the fire times that there should be."""

    expected: int
    created: int
    dup: int
    missed: int
    early: int
    strange: int


def count(jobs: list[Job], expected: set[tuple[str, datetime]]) -> Counts:
    """Count the jobs of fire times."""
    made = Counter((job.metadata["schedule"], datetime.fromisoformat(job.metadata["scheduled_for"])) for job in jobs)
    return Counts(
        expected=len(expected),
        created=len(jobs),
        dup=sum(number - 1 for number in made.values()),
        missed=len(expected - made.keys()),
        early=sum(
            job.created_at is None or job.created_at < datetime.fromisoformat(job.metadata["scheduled_for"])
            for job in jobs
        ),
        strange=len(made.keys() - expected),
    )


def test_a_year_in_five_zones(report: Report) -> None:
    configs = [
        ScheduleConfig(line, "report", name=f"{zone} {line}", timezone=zone, misfire="all", max_catchup=10_000)
        for zone in ZONES
        for line in LINES
    ]
    start, end = YEAR
    expected = {
        (config.name, fire)
        for config in configs
        for fire in cron_oracle.fires(config.cron, ZoneInfo(config.timezone), start, end)
    }
    simulation = Simulation(configs, now=start)
    chance = chances("a year")
    failing = FailingJobs(simulation.jobs, chance, 0.01)
    kills = asyncio.run(_live_through(simulation, failing, chance, end))

    counts = count(simulation.created(), expected)
    report("F17", schedules=len(configs), kills=kills, store_failures=failing.failures, **vars(counts))
    assert kills > 10
    assert failing.failures > 10
    assert counts == Counts(len(expected), len(expected), dup=0, missed=0, early=0, strange=0)


async def _live_through(simulation: Simulation, failing: FailingJobs, chance: random.Random, end: datetime) -> int:
    """Run three beats to the end of the year, killing one now and then and setting the clock; returns the kills."""
    beats = [simulation.beat(failing, failing) for _ in range(BEATS)]
    # An hour forward and back, in turn, in the middle of each month.
    steps = [(datetime(2026, month, 15, 11, 59, tzinfo=UTC), 3_600 * (-1) ** month) for month in range(1, 13)]
    kills = 0
    while simulation.now <= end:
        waits = [await beat.tick() for beat in beats]
        if steps and simulation.now >= steps[0][0]:
            simulation.set_clock(steps.pop(0)[1])
            continue
        if chance.random() < 1 / LIFE:
            beats[chance.randrange(BEATS)] = simulation.beat(failing, failing)
            kills += 1
        simulation.advance(min(waits))
    return kills


SOURCE = """
from datetime import UTC, datetime, timedelta

from celery import Celery

from portico_celery import PorticoCelery, ScheduleConfig

app = Celery("beats", broker={broker!r})
app.conf.broker_connection_retry_on_startup = True
portico = PorticoCelery(app, store={store!r})
portico.declare("report", queue={queue!r})


class EverySecond:
    def after(self, moment):
        return moment.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)


portico.schedule(ScheduleConfig("* * * * *", "report", name="each", misfire="all"), fire_times=EverySecond())
"""


@pytest.fixture(params=["sqlite", "postgres", "redis"] if size(False, True) else ["postgres"])
def store(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_store"))


@pytest.fixture
def created(store: str) -> Iterator[Callable[[], list[Job]]]:
    """All jobs that there are."""
    app = Celery("reader", broker="memory://", set_as_current=False)
    portico = PorticoCelery(app, store=store)
    yield lambda: list(portico.sync.list_jobs(JobFilter(limit=1_000)).jobs)
    portico.close()
    app.close()


def test_three_beats_one_of_them_killed_again_and_again(
    report: Report,
    store: str,
    created: Callable[[], list[Job]],
    private_rabbitmq: Callable[..., PrivateRabbitMQ],
    tmp_path: Path,
) -> None:
    node = private_rabbitmq()
    app = SmallApp(tmp_path, SOURCE.format(broker=node.url, store=store, queue="portico-f17"))
    with ExitStack() as stack:
        beats = [_started(app, stack) for _ in range(BEATS)]
        first = min(_fires(eventually(created, 60, lambda: beats[0].log_tail)))
        last = first + timedelta(seconds=WINDOW)
        kills = 0
        for victim in itertools.cycle(range(BEATS)):
            if max(_fires(created())) >= last:
                break
            _wait_for_fire(created, max(_fires(created())) + timedelta(seconds=KILL_SECONDS))
            beats[victim].kill()
            beats[victim] = _started(app, stack)
            kills += 1
            if kills == 2:
                node.stop()
                node.start()
    jobs = [job for job, fire in zip(created(), _fires(created()), strict=True) if fire <= last]
    expected = {("each", first + timedelta(seconds=number)) for number in range(WINDOW + 1)}
    counts = count(jobs, expected)
    report("F17", store=store.partition(":")[0], beats=BEATS, kills=kills, broker_restarts=1, **vars(counts))
    assert kills >= 2
    assert counts == Counts(len(expected), len(expected), dup=0, missed=0, early=0, strange=0)


def _wait_for_fire(created: Callable[[], list[Job]], fire: datetime) -> None:
    eventually(lambda: max(_fires(created())) >= fire, 60, f"a job for {fire}")


def _started(app: SmallApp, stack: ExitStack) -> Beat:
    beat = app.beat()
    stack.callback(beat.kill)
    return beat


def _fires(jobs: list[Job]) -> list[datetime]:
    return [datetime.fromisoformat(job.metadata["scheduled_for"]) for job in jobs]
