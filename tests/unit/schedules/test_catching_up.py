"""A long catch-up: a slice of it at each look, decided upon once, and nobody else has to wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest

from portico_celery.exceptions import StoreUnavailable
from portico_celery.ports.job import Job
from portico_celery.ports.job_creator import JobCreator
from portico_celery.ports.schedule import ScheduleConfig
from portico_celery.ports.schedule_store import ScheduleAccess, ScheduleStore
from portico_celery.scheduling.fire_times import FireTimes
from portico_celery.scheduling.schedule_runner import ScheduleRunner
from portico_celery.utils.logging import fields_of
from tests.schedule_simulation import NOON, EverySeconds, Simulation, daily

T = TypeVar("T")

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
#: Fire times each second before noon, that no beat was there for.
MISSED = 5_000
BEFORE = [NOON - number * SECOND for number in range(MISSED)][::-1]


class CountingSeconds(EverySeconds):
    """Counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__(1)
        self.asked = 0

    def after(self, moment: datetime) -> datetime | None:
        self.asked += 1
        return super().after(moment)


class SlowJobs(JobCreator):
    """Takes its time for each job, and fails from one job on where it is told to."""

    def __init__(self, simulation: Simulation, seconds: float = 0.02) -> None:
        self._simulation = simulation
        self._seconds = seconds
        self.calls = 0
        self.fails_from: int | None = None
        self.error: Exception = StoreUnavailable("away")

    async def create_job(
        self, job_type: str, payload: dict[str, Any], queue_name: str = "default", priority: int = 0, **kwargs: Any
    ) -> Job:
        if self.calls == self.fails_from:
            raise type(self.error)(*self.error.args)
        self.calls += 1
        self._simulation.advance(self._seconds)
        return await self._simulation.jobs.create_job(job_type, payload, queue_name, priority, **kwargs)


def backlog(**settings: Any) -> ScheduleConfig:
    """A schedule that has missed 5,000 fire times, and has none to come."""
    window = {"start_at": BEFORE[0], "end_at": NOON}
    return daily(**{"misfire": "all", "max_catchup": 10_000, **window, **settings})


def simulate(*configs: ScheduleConfig, fire_times: FireTimes | None = None) -> Simulation:
    return Simulation(configs, fire_times=fire_times or EverySeconds(1))


def tick_until_idle(simulation: Simulation, beat: Callable[[], ScheduleRunner], *, pause: float = 0.0) -> int:
    """Tick until nothing is due, by such beats; return how often."""
    for ticks in range(1, 1_000):
        if simulation.tick(beat()) > 1:
            return ticks
        simulation.advance(pause)
    raise AssertionError("there is no end of it")


class TestASlice:
    def test_no_look_makes_more_jobs_than_it_may(self) -> None:
        simulation = simulate(backlog())
        jobs, made = SlowJobs(simulation, 0.0), 0
        beat = simulation.beat(jobs)
        for _ in range(MISSED // 100 + 2):
            simulation.tick(beat)
            assert jobs.calls - made <= 100
            made = jobs.calls
        assert simulation.fires() == BEFORE

    def test_each_is_settled_when_it_is_done(self) -> None:
        simulation = simulate(backlog())
        beat = simulation.beat()
        for number in range(4):
            assert simulation.tick(beat) == 0.0
            assert simulation.state().created == len(simulation.created()) == number * 100
        assert simulation.state().settled_until == BEFORE[299]

    def test_a_schedule_beside_it_makes_all_its_jobs_on_time(self) -> None:
        simulation = simulate(backlog(), daily(name="each", misfire="skip"))
        end = NOON + timedelta(seconds=120)
        simulation.run([simulation.beat(SlowJobs(simulation))], end)
        assert simulation.fires("daily") == BEFORE
        assert simulation.fires("each")[:120] == [NOON + number * SECOND for number in range(1, 121)]
        late = [
            job.created_at - datetime.fromisoformat(job.metadata["scheduled_for"])
            for job in simulation.created("each")
            if job.created_at is not None
        ]
        assert max(late) < timedelta(seconds=4)

    def test_many_that_catch_up_take_turns_with_those_on_time(self) -> None:
        many = [backlog(name=f"backlog-{number}", start_at=NOON - 20 * SECOND) for number in range(250)]
        simulation = simulate(*many, daily(name="each", misfire="skip"))
        simulation.run([simulation.beat(SlowJobs(simulation))], NOON + timedelta(seconds=130))
        assert simulation.fires("each")[:120] == [NOON + number * SECOND for number in range(1, 121)]
        assert simulation.state("each").missed == 0
        assert len(simulation.created()) >= 250 * 21 + 120

    def test_more_that_are_due_at_once_than_one_look_takes(self) -> None:
        simulation = Simulation([daily(name=f"hourly-{number}") for number in range(250)])
        beat = simulation.beat()
        simulation.tick(beat)
        simulation.advance(3_600)
        assert [simulation.tick(beat) for _ in range(3)] == [0.0, 0.0, 3_600.0]
        assert len(simulation.created()) == 250

    def test_a_grace_that_spans_very_many_is_neither_built_nor_made_in_one_look(self) -> None:
        source = CountingSeconds()
        config = backlog(misfire="skip", misfire_grace=200_000, start_at=NOON - timedelta(seconds=99_999))
        simulation = simulate(config, fire_times=source)
        beat = simulation.beat()
        for number in range(10):
            source.asked = 0
            simulation.tick(beat)
            assert source.asked < 500
            assert len(simulation.created()) == number * 100
        assert simulation.fires()[0] == NOON - timedelta(seconds=99_999)
        assert simulation.state().missed == 0

    def test_counting_what_is_given_up_has_slices_too(self) -> None:
        source = CountingSeconds()
        simulation = simulate(backlog(misfire="once", start_at=NOON - 10 * DAY), fire_times=source)
        beat = simulation.beat()
        most = 0
        while simulation.state_or_none() is None or simulation.state().settled_until < NOON:
            source.asked = 0
            simulation.tick(beat)
            most = max(most, source.asked)
        assert most < 11_000
        assert simulation.fires() == [NOON - number * SECOND for number in range(30, -1, -1)]
        assert simulation.state().missed == 864_001 - 31


class TestOneOutageIsDecidedUponOnce:
    @pytest.mark.parametrize(
        ("settings", "made"),
        [
            ({"misfire": "once"}, 1),
            ({"misfire": "skip"}, 0),
            ({"max_catchup": 2}, 2),
            ({"max_catchup": 250}, 250),
            ({}, MISSED),
        ],
    )
    @pytest.mark.parametrize("crashes", [False, True])
    def test_the_newest_are_made_up_for_and_no_more(
        self, settings: dict[str, Any], made: int, *, crashes: bool
    ) -> None:
        simulation = simulate(backlog(misfire_grace=0, **settings))
        simulation.advance(0.5)
        beat = simulation.beat()
        ticks = tick_until_idle(simulation, simulation.beat if crashes else lambda: beat, pause=0.1)
        assert ticks >= made / 100
        assert simulation.fires() == BEFORE[MISSED - made :]
        state = simulation.state()
        assert (state.created, state.missed, state.owed_until) == (made, MISSED - made, None)

    def test_a_crash_between_slices_gives_up_nothing_that_was_to_be_made_up_for(self) -> None:
        # Those that come meanwhile are late as well: were the policy applied anew, they would take the others' places.
        simulation = simulate(backlog(max_catchup=250, misfire_grace=0, end_at=None))
        for _ in range(2):
            simulation.tick(simulation.beat())
        assert len(simulation.created()) == 100
        simulation.advance(300.5)
        for _ in range(2):
            simulation.tick(simulation.beat())
        assert simulation.fires() == BEFORE[-250:]
        for _ in range(10):
            simulation.tick(simulation.beat())
        newer = [NOON + number * SECOND for number in range(51, 301)]
        assert simulation.fires() == [*BEFORE[-250:], *newer]
        assert simulation.state().missed == MISSED - 250 + 50

    def test_what_was_decided_while_the_clock_was_ahead_makes_no_job_early(self) -> None:
        simulation = simulate(backlog(max_catchup=5_000, end_at=None, start_at=None))
        beats = [simulation.beat()]
        simulation.run(beats, NOON + 2 * SECOND)
        simulation.set_clock(3_600)
        for _ in range(3):
            simulation.tick(beats[0])
        assert simulation.state().owed_until is not None
        simulation.set_clock(-3_600)
        simulation.run(beats, simulation.now + timedelta(seconds=1_000))
        created = simulation.created()
        early = [
            job
            for job in created
            if job.created_at is not None and job.created_at < datetime.fromisoformat(job.metadata["scheduled_for"])
        ]
        fires = simulation.fires()
        assert not early
        assert fires == [NOON + number * SECOND for number in range(1, len(fires) + 1)]
        assert len(fires) > 1_000

    def test_several_beats_agree(self) -> None:
        simulation = simulate(backlog(max_catchup=250))
        simulation.run([simulation.beat(SlowJobs(simulation)) for _ in range(3)], NOON + timedelta(seconds=60))
        assert simulation.fires() == BEFORE[-250:]
        assert (simulation.state().created, simulation.state().missed) == (250, MISSED - 250)

    def test_one_that_is_restarted_gives_up_the_rest(self) -> None:
        simulation = simulate(backlog(end_at=None))
        beat = simulation.beat()
        for _ in range(2):
            simulation.tick(beat)
        asyncio.run(simulation.service.restart("daily"))
        simulation.run([beat], NOON + 5 * SECOND)
        assert simulation.fires() == [*BEFORE[:100], *(NOON + number * SECOND for number in range(1, 6))]

    @pytest.mark.parametrize("resumed", [True, False], ids=["and resumed", "and a beat goes on"])
    def test_one_that_is_paused_half_way_makes_what_was_due_before(self, resumed: bool) -> None:
        simulation = simulate(backlog(end_at=None))
        beat = simulation.beat()
        for _ in range(5):
            simulation.tick(beat)
        assert 0 < len(simulation.fires()) < MISSED
        simulation.set_clock(0)
        due = MISSED + 10
        asyncio.run(simulation.service.pause("daily"))
        simulation.advance(600)
        if resumed:
            assert asyncio.run(simulation.service.resume("daily"))
            assert (simulation.state().owed_until, simulation.state().settled_until) == (None, simulation.now)
        else:
            for _ in range(2 * MISSED // 100):
                simulation.tick(beat)
        assert len(simulation.fires()) == simulation.state().created == due
        assert simulation.fires()[-1] == NOON + 10 * SECOND

    def test_one_that_is_enabled_no_more_makes_no_job_when_it_is_resumed(self) -> None:
        simulation = simulate(backlog(end_at=None))
        simulation.advance(0.5)
        beat = simulation.beat()
        for _ in range(3):
            simulation.tick(beat)
        made = len(simulation.fires())
        assert simulation.state().owed_until is not None
        asyncio.run(simulation.service.pause("daily"))
        of_now = Simulation([backlog(end_at=None, enabled=False)], fire_times=EverySeconds(1), shared=simulation.store)
        assert asyncio.run(of_now.service.resume("daily"))
        assert (len(simulation.fires()), simulation.state().missed) == (made, MISSED - made)

    def test_one_that_is_resumed_while_a_beat_finds_it_paused_loses_no_fire_time(self) -> None:
        simulation = Simulation([daily()])
        beat = simulation.beat()
        simulation.tick(beat)
        asyncio.run(simulation.service.pause("daily"))
        simulation.advance(3_600)
        simulation.tick(beat)
        # As if it had been resumed a moment before one, and this were seen a moment after.
        simulation.now -= timedelta(milliseconds=60)
        assert asyncio.run(simulation.service.resume("daily"))
        simulation.run([beat], NOON + timedelta(hours=1, minutes=1))
        assert simulation.fires() == [NOON + timedelta(hours=1)]
        assert simulation.state().missed == 0

    @pytest.mark.parametrize("phase", range(0, 60, 10))
    def test_one_that_is_restarted_is_on_time_again_at_once(self, phase: int) -> None:
        simulation = Simulation([daily(misfire="skip")])
        simulation.set_clock(3_600 * 24)
        beat = simulation.beat()
        simulation.tick(beat)
        simulation.set_clock(-3_600 * 24 + phase)
        simulation.run([beat], NOON + timedelta(minutes=59, seconds=49))
        asyncio.run(simulation.service.restart("daily"))
        simulation.run([beat], NOON + timedelta(hours=1, minutes=2))
        assert simulation.fires()[:1] == [NOON + timedelta(hours=1)]


class TestOneThatFailsHalfWay:
    @pytest.mark.parametrize("error", [StoreUnavailable("away"), RuntimeError("broken")])
    def test_what_was_made_is_settled(self, error: Exception) -> None:
        simulation = simulate(backlog(max_catchup=150))
        jobs = SlowJobs(simulation, 0.0)
        jobs.fails_from, jobs.error = 130, error
        beat = simulation.beat(jobs)
        for _ in range(3):
            simulation.tick(beat)
        state = simulation.state()
        assert (state.created, state.settled_until, state.missed) == (130, BEFORE[-21], MISSED - 150)
        assert state.owed_until is not None
        jobs.fails_from = None
        simulation.advance(1)
        tick_until_idle(simulation, lambda: beat, pause=1.0)
        assert simulation.fires() == BEFORE[-150:]

    def test_a_store_that_fails_one_of_them_leaves_the_others_in_their_turn(self) -> None:
        many = [backlog(name=f"backlog-{number}", start_at=NOON - 20 * SECOND) for number in range(150)]
        simulation = simulate(*many, daily(name="each", misfire="skip"))
        jobs = FailingEachHundredth(simulation)
        simulation.run([simulation.beat(jobs)], NOON + timedelta(seconds=120))
        assert simulation.state("each").missed == 0
        assert len(simulation.fires("each")) >= 119
        assert len(simulation.created()) >= 150 * 21

    def test_what_comes_meanwhile_is_decided_upon_anew(self) -> None:
        # So that a schedule whose jobs were refused for long does not make one of long ago beside the newest.
        simulation = Simulation([daily()])
        jobs = SlowJobs(simulation, 0.0)
        jobs.fails_from, jobs.error = 0, RuntimeError("refused")
        simulation.run([simulation.beat(jobs)], NOON + timedelta(hours=5))
        jobs.fails_from = None
        simulation.run([simulation.beat(jobs)], NOON + timedelta(hours=5, minutes=10))
        assert simulation.fires() == [NOON + timedelta(hours=5)]

    def test_a_look_that_never_comes_to_its_end_loses_nothing(self) -> None:
        simulation = Simulation([daily()])
        hanging = Hanging(simulation)
        beat = simulation.beat(access=hanging)
        simulation.tick(beat)
        simulation.advance(3_600)
        hanging.hangs = True

        async def give_up() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(beat.tick(), 0.01)

        asyncio.run(give_up())
        hanging.hangs = False
        simulation.tick(beat)
        assert simulation.fires() == [NOON + timedelta(hours=1)]

    def test_a_source_that_goes_no_further_holds_up_nobody(self) -> None:
        simulation = Simulation([daily(name="good")])
        simulation.book.add(daily(name="bad"), fire_times=Standing())
        beat = simulation.beat()
        simulation.run([beat], NOON + timedelta(hours=2))
        assert len(simulation.fires("good")) == 2
        assert 60 < beat.health.errors < 200


class FailingEachHundredth(SlowJobs):
    """The store is away for a moment, again and again."""

    async def create_job(
        self, job_type: str, payload: dict[str, Any], queue_name: str = "default", priority: int = 0, **kwargs: Any
    ) -> Job:
        if self.calls % 100 == 99:
            self.calls += 1
            raise StoreUnavailable("away")
        return await super().create_job(job_type, payload, queue_name, priority, **kwargs)


class Hanging(ScheduleAccess):
    """A store that does not answer while a test says so."""

    def __init__(self, simulation: Simulation) -> None:
        self._jobs = simulation.jobs
        self.hangs = False

    async def schedules(self, call: Callable[[ScheduleStore], T]) -> T:
        if self.hangs:
            self.hangs = False  # the clock may still be told
            answer = await self._jobs.schedules(call)
            self._jobs_hang = asyncio.Event()
            if not isinstance(answer, datetime):
                await self._jobs_hang.wait()
            self.hangs = True
            return answer
        return await self._jobs.schedules(call)


class Standing(FireTimes):
    """Names the same moment again and again."""

    def after(self, _moment: datetime) -> datetime | None:
        return NOON


class TestOneThatIsSettledFarAhead:
    def simulation(self) -> Simulation:
        """A beat has run while the store's clock stood a year ahead, which it does no more."""
        simulation = Simulation([daily(), daily("30 * * * *", name="half-past", overlap="skip")])
        simulation.run([simulation.beat()], NOON + timedelta(hours=1))
        simulation.set_clock(365 * 86_400)
        simulation.tick(simulation.beat())
        simulation.set_clock(-365 * 86_400)
        return simulation

    def silent(self, caplog: pytest.LogCaptureFixture) -> list[Any]:
        told = [fields_of(record) or {} for record in caplog.records if record.levelno == logging.ERROR]
        return [fields for fields in told if fields["event"] == "schedules_settled_ahead"]

    def test_a_beat_that_starts_tells_which_till_when_and_what_to_do(self, caplog: pytest.LogCaptureFixture) -> None:
        simulation = self.simulation()
        assert not self.silent(caplog)
        beat = simulation.beat()
        simulation.run([beat], NOON + timedelta(hours=3))
        [told] = self.silent(caplog)
        assert told["silent_until"] == {
            name: simulation.state(name).settled_until.isoformat() for name in ("daily", "half-past")
        }
        assert "schedules restart" in told["remedy"]
        assert beat.health.errors == 1

    def test_a_beat_that_runs_tells_when_the_clock_is_set_back(self, caplog: pytest.LogCaptureFixture) -> None:
        simulation = Simulation([daily()])
        beat = simulation.beat()
        simulation.set_clock(365 * 86_400)
        simulation.run([beat], simulation.now + timedelta(hours=2))
        assert not self.silent(caplog)
        simulation.set_clock(-365 * 86_400)
        simulation.tick(beat)
        assert len(self.silent(caplog)) == 1

    def test_a_clock_that_is_a_little_off_is_not_told_of(self, caplog: pytest.LogCaptureFixture) -> None:
        simulation = Simulation([daily("* * * * *")])
        simulation.run([simulation.beat()], NOON + timedelta(hours=1))
        simulation.set_clock(-200)
        simulation.tick(simulation.beat())
        assert not self.silent(caplog)

    def test_beats_that_run_notice_when_it_is_restarted(self) -> None:
        simulation = self.simulation()
        before = len(simulation.created())
        beats = [simulation.beat(), simulation.beat()]
        simulation.run(beats, NOON + timedelta(hours=4, minutes=10))
        assert len(simulation.created()) == before
        view = asyncio.run(simulation.service.restart("daily"))
        assert view.next_fire == NOON + timedelta(hours=5)
        simulation.run(beats, NOON + timedelta(hours=6, minutes=45))
        made = [fire for fire in simulation.fires("daily") if fire < NOON + 100 * DAY]
        assert made == [NOON + timedelta(hours=number) for number in (1, 5, 6)]
        assert simulation.state().last_fire == made[-1]
        assert len(simulation.created()) == before + 2, "the other one waits as it did"
