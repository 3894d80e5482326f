"""Celery beat with our scheduler, and with others, as processes of their own."""

from __future__ import annotations

import json
import pickle
import shelve
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from portico_celery import CronSchedule, PorticoCelery, ScheduleConfig
from portico_celery.adapters.celery.beat_scheduler import PorticoScheduler
from portico_celery.adapters.job_store.sql_store import SqlJobStore
from portico_celery.exceptions import ConfigurationError
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_reader import JobFilter
from portico_celery.ports.schedule_store import ScheduleState
from tests.integration.small_app import SmallApp
from tests.services import free_port
from tests.waiting import eventually

SECONDS = 20.0

SOURCE = """
from datetime import UTC, datetime, timedelta
from pathlib import Path

from celery import Celery
from celery.schedules import crontab, solar

from portico_celery import CronSchedule, PorticoCelery, ScheduleConfig
from portico_celery.ports.job import JobResult

app = Celery("shop", broker={broker!r})
app.conf.task_default_queue = {queue!r}
{settings}

@app.task(name="shop.tidy")
def tidy():
    with open("tidied", "a") as file:
        file.write("x")


class Report:
    job_type = "report.daily"

    async def handle(self, job):
        return JobResult(success=True, result_data=job.metadata)

    async def on_failure(self, job, error):
        pass


class EverySecond:
    def after(self, moment):
        return moment.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)


portico = PorticoCelery(app, store="sqlite:///jobs.db")
portico.register(Report(), queue={queue!r})
{schedules}
"""
EACH_SECOND = 'portico.schedule(ScheduleConfig("* * * * *", "report.daily", name="each"), fire_times=EverySecond())'
# The first beat is killed when its jobs are committed, and their fire times are not settled yet.
DEATH_BEFORE_SETTLING = """
import os
import signal

from portico_celery.adapters.job_store.sql_schedules import SqlScheduleStore

settle = SqlScheduleStore.settle


def settle_unless_first(self, settlements):
    if any(settlement.created for settlement in settlements) and not os.path.exists("died"):
        open("died", "x").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return settle(self, settlements)


SqlScheduleStore.settle = settle_unless_first
"""
STOCK = """
app.conf.beat_schedule = {
    "interval": {"task": "shop.tidy", "schedule": 1.0},
    "crontab": {"task": "shop.tidy", "schedule": crontab(minute="*/5")},
    "solar": {"task": "shop.tidy", "schedule": solar("sunset", 52.5, 13.4)},
    "cron": {"task": "shop.tidy", "schedule": CronSchedule("H 2 * * *", "Europe/Berlin", name="cron")},
}
"""

MakeApp = Callable[..., SmallApp]


@pytest.fixture
def make_app(tmp_path: Path, amqp_url: str, queue_name: str) -> MakeApp:
    def make(*, broker: str = amqp_url, settings: str = "", schedules: str = "") -> SmallApp:
        source = SOURCE.format(broker=broker, queue=queue_name, settings=settings, schedules=schedules)
        return SmallApp(tmp_path, source)

    return make


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Callable[[], list[Job]]]:
    """The jobs that there are, newest first."""
    app = Celery("reader", broker="memory://", set_as_current=False)
    portico = PorticoCelery(app, store=f"sqlite:///{tmp_path / 'jobs.db'}")
    yield lambda: list(portico.sync.list_jobs(JobFilter(limit=1_000)).jobs)
    portico.close()
    app.close()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Callable[[], ScheduleState]]:
    """What is remembered of the schedule ``each``."""
    with closing(SqlJobStore(f"sqlite:///{tmp_path / 'jobs.db'}")) as store:
        yield lambda: store.schedules().read(["each"])["each"]


def state_of(directory: Path) -> dict[str, Any]:
    """The stock entries' state that a beat has written."""
    [path] = directory.glob("beat-*-state.portico")
    entries: dict[str, Any] = pickle.loads(path.read_bytes())["entries"]  # noqa: S301  # the test's own
    return entries


class TestBeat:
    def test_it_works_out_of_the_box_beside_the_applications_own_entries(
        self, make_app: MakeApp, jobs: Callable[[], list[Job]], tmp_path: Path
    ) -> None:
        app = make_app(settings=STOCK, schedules=EACH_SECOND)
        with app.worker("--pool=solo"), app.beat() as beat:
            eventually(lambda: len([job for job in jobs() if job.status is JobStatus.COMPLETED]) >= 2, SECONDS)
            eventually((tmp_path / "tidied").exists, SECONDS, lambda: beat.log_tail)
        assert state_of(tmp_path).keys() >= {"interval", "crontab", "solar", "cron"}
        [state] = tmp_path.glob("beat-*-state.portico")
        assert f". db -> {state.name}\n" in beat.log, "the banner names the file that there is"
        job = jobs()[0]
        assert job.metadata["schedule"] == "each"
        assert datetime.fromisoformat(job.metadata["scheduled_for"]).microsecond == 0

    def test_it_works_in_a_worker(self, make_app: MakeApp, jobs: Callable[[], list[Job]], tmp_path: Path) -> None:
        app = make_app(settings=STOCK, schedules=EACH_SECOND)
        with app.worker("-B", "-c", "1", "-s", "embedded-state") as worker:
            eventually(lambda: [job for job in jobs() if job.status is JobStatus.COMPLETED], SECONDS)
            eventually((tmp_path / "tidied").exists, SECONDS, lambda: worker.log_tail)

    def test_the_state_of_stock_entries_survives_a_hard_kill(self, make_app: MakeApp, tmp_path: Path) -> None:
        app = make_app(settings=STOCK)
        beat = app.beat()
        try:
            beat.wait_until_ready()
            eventually(lambda: beat.log.count("Sending due task interval") >= 2, SECONDS)
        finally:
            beat.kill()
        entry = state_of(tmp_path)["interval"]
        # The last may have been sent and not yet noted.
        assert entry.total_run_count >= 1
        assert datetime.now(UTC) - entry.last_run_at < timedelta(minutes=1)

    @pytest.mark.parametrize(
        ("settings", "options"),
        [
            ("", ("-S", "celery.beat:PersistentScheduler")),
            ('app.conf.beat_scheduler = "celery.beat:PersistentScheduler"', ()),
        ],
        ids=["option", "setting"],
    )
    def test_a_scheduler_that_somebody_names_wins(
        self, make_app: MakeApp, settings: str, options: tuple[str, ...]
    ) -> None:
        app = make_app(settings=settings, schedules=EACH_SECOND)
        with app.beat(*options) as beat:
            assert "celery.beat.PersistentScheduler" in beat.log
            eventually(lambda: "runs none of Portico's 1 schedules" in beat.log, SECONDS, lambda: beat.log_tail)

    def test_a_broker_that_is_down_delays_no_job(self, make_app: MakeApp, jobs: Callable[[], list[Job]]) -> None:
        # With an entry of the application's own, for which beat waits until the broker is back.
        broker = f"amqp://guest:guest@127.0.0.1:{free_port()}//"
        # Ours is named by the command, and so wins over the setting.
        settings = f'{STOCK}\napp.conf.beat_scheduler = "celery.beat:PersistentScheduler"'
        app = make_app(broker=broker, settings=settings, schedules=EACH_SECOND)
        with app.beat("-S", "portico_celery.adapters.celery.beat_scheduler:PorticoScheduler") as beat:
            eventually(lambda: "beat: Connection error" in beat.log, SECONDS, lambda: beat.log_tail)
            before = len(jobs())
            eventually(lambda: len(jobs()) >= before + 4, SECONDS, lambda: beat.log_tail)
            beat.kill()

    def test_one_that_is_killed_between_creating_and_settling_leaves_no_double(
        self, make_app: MakeApp, jobs: Callable[[], list[Job]], tmp_path: Path, state: Callable[[], ScheduleState]
    ) -> None:
        app = make_app(
            settings=DEATH_BEFORE_SETTLING, schedules=EACH_SECOND.replace('name="each"', 'name="each", misfire="all"')
        )
        beat = app.beat()
        try:
            eventually(lambda: not beat.running, SECONDS, lambda: beat.log_tail)
        finally:
            beat.kill()
        assert (tmp_path / "died").exists()
        made = {job.id for job in jobs()}
        fire = datetime.fromisoformat(jobs()[-1].metadata["scheduled_for"])
        assert (state().created, state().settled_until < fire) == (0, True), "it died before that was settled"

        with app.beat() as beat:
            eventually(lambda: state().created >= 3, SECONDS, lambda: beat.log_tail)
        fires = sorted(datetime.fromisoformat(job.metadata["scheduled_for"]) for job in jobs())
        assert fires == [fire + timedelta(seconds=number) for number in range(len(fires))]
        assert made <= {job.id for job in jobs()}

    def test_a_long_catch_up_holds_up_nobody(self, make_app: MakeApp, tmp_path: Path) -> None:
        now = datetime.now(UTC).replace(microsecond=0)
        app = make_app(
            settings=STOCK,
            schedules=f"""
end = datetime.fromisoformat("{now.isoformat()}")
window = {{"start_at": end - timedelta(seconds=9_999), "end_at": end}}
backlog = ScheduleConfig("* * * * *", "report.daily", name="backlog", misfire="all", max_catchup=10_000, **window)
portico.schedule(backlog, fire_times=EverySecond())
{EACH_SECOND}
""",
        )
        with app.beat() as beat, closing(SqlJobStore(f"sqlite:///{tmp_path / 'jobs.db'}")) as store:
            eventually(lambda: beat.log.count("Sending due task interval") >= 4, SECONDS, lambda: beat.log_tail)
            states = store.schedules().read(["each", "backlog"])
            beat.kill()
        assert 0 < states["backlog"].created < 10_000, "it went on meanwhile, and is not at its end"
        assert states["each"].created >= 2
        assert states["each"].missed == 0

    def test_three_fire_times_with_no_beat(self, make_app: MakeApp, jobs: Callable[[], list[Job]]) -> None:
        # Of the last three hours, each half an hour from now, on schedules that no beat has seen so far.
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        fire = now - timedelta(minutes=30)
        app = make_app(
            schedules=f"""
for name, policy in (
    ("once", {{"misfire": "once"}}),
    ("skip", {{"misfire": "skip"}}),
    ("all", {{"misfire": "all"}}),
    ("newest two", {{"misfire": "all", "max_catchup": 2}}),
):
    start = datetime.fromisoformat("{(now - timedelta(hours=3)).isoformat()}")
    cron = "{fire.minute} * * * *"
    portico.schedule(ScheduleConfig(cron, "report.daily", name=name, start_at=start, **policy))
{EACH_SECOND}
"""
        )
        with app.beat():
            # By then the first tick is long over.
            eventually(lambda: [job for job in jobs() if job.metadata["schedule"] == "each"], SECONDS)
        made: dict[str, list[int]] = {"once": [], "skip": [], "all": [], "newest two": []}
        for job in jobs():
            if job.metadata["schedule"] != "each":
                late = fire - datetime.fromisoformat(job.metadata["scheduled_for"])
                made[job.metadata["schedule"]].append(late // timedelta(hours=1))
        assert {name: sorted(hours) for name, hours in made.items()} == {
            "once": [0],
            "skip": [],
            "all": [0, 1, 2],
            "newest two": [0, 1],
        }

    @pytest.mark.parametrize("command", [("beat",), ("portico", "schedules", "lint")], ids=["beat", "lint"])
    @pytest.mark.parametrize(
        ("line", "fault"),
        [
            ('job_type = "report.weekly"', "no handler for job type 'report.weekly'"),
            ("payload = { since = 2026-01-01 }", "payload.since is a date, which JSON does not have"),
            ('queue_name = "my reports"', "queue_name must be printable text without spaces"),
            ("max_retries = 1_001", "max_retries must be an integer from 0 to 1000, not 1001"),
            ("metadata = { since = 2026-01-01 }", "metadata.since is a date, which JSON does not have"),
        ],
    )
    def test_a_fault_in_the_file_is_told_with_its_line(
        self, make_app: MakeApp, tmp_path: Path, command: tuple[str, ...], line: str, fault: str
    ) -> None:
        job_type = "" if line.startswith("job_type") else 'job_type = "report.daily"'
        (tmp_path / "schedules.toml").write_text(f'[[schedules]]\ncron = "0 9 * * *"\n{job_type}\n{line}\n')
        ended = make_app(settings='app.conf.portico_schedules = "schedules.toml"').celery(*command)
        assert ended.returncode != 0
        assert f"schedules.toml:4: {fault}" in ended.output

    def test_a_worker_refuses_it_too_since_a_beat_inside_it_would_end_unseen(
        self, make_app: MakeApp, tmp_path: Path
    ) -> None:
        (tmp_path / "schedules.toml").write_text('[[schedules]]\ncron = "61 * * * *"\njob_type = "report.daily"\n')
        app = make_app(settings='app.conf.portico_schedules = "schedules.toml"')
        ended = app.celery("worker", "-B", "--pool", "solo")
        assert ended.returncode != 0
        assert "schedules.toml:2: cron: '61 * * * *' can't be read" in ended.output

    def test_an_app_without_portico_is_told(self, tmp_path: Path) -> None:
        app = SmallApp(tmp_path, 'from celery import Celery\napp = Celery("plain", broker="memory://")\n')
        ended = app.celery("beat", "-S", "portico_celery.adapters.celery.beat_scheduler:PorticoScheduler")
        assert ended.returncode != 0
        assert "make a PorticoCelery(app)" in ended.output


class TestTheStateFile:
    def app(self) -> Celery:
        app = Celery("state", broker="memory://", set_as_current=False)
        app.conf.beat_schedule = {"hourly": {"task": "shop.tidy", "schedule": CronSchedule("@hourly")}}
        PorticoCelery(app, store="memory://")
        return app

    def test_what_celerys_own_scheduler_left_is_taken_over(self, tmp_path: Path) -> None:
        filename = str(tmp_path / "celerybeat-schedule")
        app = self.app()
        ran = datetime(2026, 1, 1, 12, tzinfo=UTC)
        entry = PorticoScheduler.Entry(
            name="hourly", task="shop.tidy", schedule=CronSchedule("@hourly"), last_run_at=ran, app=app
        )
        with closing(shelve.open(filename)) as stock:  # noqa: S301  # as Celery's own scheduler keeps it
            stock.update(
                {"entries": {"hourly": entry}, "__version__": "5.7.0", "tz": app.conf.timezone, "utc_enabled": True}
            )
        scheduler = PorticoScheduler(app, schedule_filename=filename)
        assert scheduler.schedule["hourly"].last_run_at == ran
        assert Path(f"{filename}.portico").exists()

    def test_one_that_can_not_be_read_is_begun_anew(self, tmp_path: Path) -> None:
        (tmp_path / "state.portico").write_bytes(b"torn")
        scheduler = PorticoScheduler(self.app(), schedule_filename=str(tmp_path / "state"))
        assert set(scheduler.schedule) >= {"hourly"}


def test_a_beat_of_its_own_refuses_a_store_in_memory(tmp_path: Path) -> None:
    app = Celery("memory", broker="memory://", set_as_current=False)
    portico = PorticoCelery(app, store="memory://")
    portico.declare("report.daily")
    portico.schedule(ScheduleConfig("@daily", "report.daily"))
    with pytest.raises(ConfigurationError, match="no worker would see the jobs"):
        PorticoScheduler(app, schedule_filename=str(tmp_path / "state"))


def test_a_beat_refuses_to_delete_jobs_before_their_fire_times_may_be_settled(tmp_path: Path) -> None:
    app = Celery("soon", broker="memory://", set_as_current=False)
    portico = PorticoCelery(app, store=f"sqlite:///{tmp_path / 'jobs.db'}")
    app.conf.portico_result_ttl = 599
    portico.declare("report.daily")
    PorticoScheduler(app, schedule_filename=str(tmp_path / "without-schedules")).close()
    portico.schedule(ScheduleConfig("@daily", "report.daily"))
    with pytest.raises(ConfigurationError, match=r"portico_result_ttl is 599 s.*at least 600"):
        PorticoScheduler(app, schedule_filename=str(tmp_path / "state"))


class TestCronScheduleInBeatSchedule:
    def schedule(self, now: datetime, cron: str = "30 2 * * *") -> CronSchedule:
        return CronSchedule(cron, "Europe/Berlin", nowfun=lambda: now)

    def test_it_is_due_once_its_time_has_come(self) -> None:
        last = datetime(2026, 10, 24, 0, 30, tzinfo=UTC)
        before = self.schedule(datetime(2026, 10, 25, 0, 29, tzinfo=UTC)).is_due(last)
        assert (before.is_due, before.next) == (False, 60.0)
        assert self.schedule(datetime(2026, 10, 25, 0, 29, tzinfo=UTC)).remaining_estimate(last) == timedelta(minutes=1)
        after = self.schedule(datetime(2026, 10, 25, 0, 30, tzinfo=UTC)).is_due(last)
        # The next is on the next night, not on the second pass of this one.
        assert (after.is_due, after.next) == (True, 25 * 3_600.0)

    def test_it_may_be_pickled_and_compared(self) -> None:
        schedule = CronSchedule("H 2 * * *", "Europe/Berlin", name="a")
        copy = pickle.loads(pickle.dumps(schedule))  # noqa: S301  # the test's own
        assert copy == schedule
        assert hash(copy) == hash(schedule)
        assert schedule != CronSchedule("H 2 * * *", "Europe/Berlin", name="b")
        assert json.dumps(repr(copy)) == '"<cron: H 2 * * * Europe/Berlin>"'
