"""What beats make of schedules, under a clock that the tests turn."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

import pytest

from portico_celery.exceptions import ConfigurationError, ResourceNotFoundError, StoreUnavailable, ValidationError
from portico_celery.kits.job import JobService
from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_creator import JobCreator
from portico_celery.ports.job_store import Claim, Finish, Transition
from portico_celery.ports.schedule_store import ScheduleStore
from tests.schedule_simulation import NOON, EverySeconds, FailingJobs, Simulation, daily

T = TypeVar("T")

HOUR = timedelta(hours=1)
HOURS = [NOON + number * HOUR for number in range(1, 9)]


def finish(simulation: Simulation, job: Job) -> None:
    """Run a job to its end."""
    [claimed] = simulation.store.claim([Claim(job_id=job.id, worker="w", lease_seconds=30)])
    assert claimed is not None
    done = Transition(status=JobStatus.COMPLETED, retry_count=0)
    simulation.store.finish([Finish(job_id=job.id, attempt=claimed.attempt, transition=done)])


class TestFiring:
    def test_each_fire_time_makes_one_job_at_its_time(self) -> None:
        simulation = Simulation([daily()])
        simulation.run([simulation.beat()], NOON + 4 * HOUR)
        assert simulation.fires() == HOURS[:4]
        for job in simulation.created():
            fire = datetime.fromisoformat(job.metadata["scheduled_for"])
            assert job.created_at is not None
            assert timedelta() <= job.created_at - fire < timedelta(seconds=1)

    def test_the_job_is_as_the_configuration_says(self) -> None:
        config = daily(
            payload={"kind": "daily"}, queue_name="reports", priority=5, max_retries=1, metadata={"team": "red"}
        )
        simulation = Simulation([config])
        simulation.run([simulation.beat()], NOON + HOUR)
        [job] = simulation.created()
        assert (job.job_type, job.payload, job.queue_name, job.priority, job.max_retries) == (
            "report.daily",
            {"kind": "daily"},
            "reports",
            5,
            1,
        )
        assert job.metadata == {"team": "red", "schedule": "daily", "scheduled_for": HOURS[0].isoformat()}

    def test_any_number_of_beats_make_one_job(self) -> None:
        simulation = Simulation([daily(), daily("*/30 * * * *", name="half-hourly")])
        simulation.run([simulation.beat() for _ in range(3)], NOON + 4 * HOUR)
        assert simulation.fires("daily") == HOURS[:4]
        assert len(simulation.fires("half-hourly")) == 8
        assert (simulation.state().created, simulation.state().missed) == (4, 0)

    def test_what_it_made_is_remembered(self) -> None:
        simulation = Simulation([daily()])
        simulation.run([simulation.beat()], NOON + 2 * HOUR)
        state = simulation.state()
        assert (state.last_fire, state.settled_until, state.created) == (HOURS[1], HOURS[1], 2)
        assert state.last_job_id == simulation.created()[-1].id

    def test_it_sleeps_until_the_next_is_due_however_many_are_not(self) -> None:
        simulation = Simulation([daily(f"{number % 60} 0 1 1 *", name=str(number)) for number in range(200)])
        assert simulation.tick(simulation.beat()) > 180 * 24 * 3_600

    def test_one_that_is_not_enabled_makes_none(self) -> None:
        simulation = Simulation([daily(enabled=False)])
        simulation.run([simulation.beat()], NOON + 4 * HOUR)
        assert not simulation.created()

    def test_jitter_delays_the_job_and_not_its_creation(self) -> None:
        simulation = Simulation([daily(jitter=300)])
        simulation.run([simulation.beat()], NOON + HOUR)
        [job] = simulation.created()
        assert job.status is JobStatus.SCHEDULED
        assert job.scheduled_at is not None
        assert HOURS[0] < job.scheduled_at < HOURS[0] + timedelta(seconds=300)


class TestBeatsThatAreAway:
    @pytest.mark.parametrize(
        ("settings", "made"),
        [({}, 1), ({"misfire": "skip"}, 0), ({"misfire": "all"}, 3), ({"misfire": "all", "max_catchup": 2}, 2)],
    )
    def test_the_next_one_catches_up_by_the_policy(self, settings: dict[str, Any], made: int) -> None:
        simulation = Simulation([daily(**settings)])
        simulation.tick(simulation.beat())
        simulation.advance(3 * 3_600 + 600)
        simulation.tick(simulation.beat())
        assert simulation.fires() == HOURS[3 - made : 3]
        assert (simulation.state().created, simulation.state().missed) == (made, 3 - made)

    def test_a_new_schedule_begins_now(self) -> None:
        simulation = Simulation([daily(misfire="all")])
        simulation.tick(simulation.beat())
        assert not simulation.created()

    def test_a_new_schedule_that_began_in_the_past_catches_up(self) -> None:
        simulation = Simulation([daily(misfire="all", start_at=NOON - 2 * HOUR)])
        simulation.tick(simulation.beat())
        assert simulation.fires() == [NOON - 2 * HOUR, NOON - HOUR, NOON]

    @pytest.mark.parametrize("seed", range(5))
    def test_a_store_that_fails_by_chance_delays_and_doubles_nothing(self, seed: int) -> None:
        simulation = Simulation(
            [daily(misfire="all", name="a"), daily("*/7 * * * *", misfire="all", name="b", overlap="allow")]
        )
        failing = FailingJobs(simulation.jobs, random.Random(seed), 0.2)  # noqa: S311  # chances, not secrets
        beats = [simulation.beat(failing, failing) for _ in range(3)]
        simulation.run(beats, NOON + 4 * HOUR + timedelta(minutes=6))
        assert failing.failures > 10
        assert simulation.fires("a") == HOURS[:4]
        assert len(simulation.fires("b")) == len(set(simulation.fires("b"))) == 36

    def test_a_store_that_is_wiped_begins_anew(self) -> None:
        simulation = Simulation([daily()])
        beat = simulation.beat()
        simulation.run([beat], NOON + HOUR)
        simulation.store.schedules()._states.clear()
        simulation.run([beat], NOON + 3 * HOUR)
        assert simulation.fires()[-1] == HOURS[2]


class TestTheClockThatIsSet:
    def test_back_makes_no_doubles(self) -> None:
        simulation = Simulation([daily("*/10 * * * *", misfire="all")])
        beats = [simulation.beat(), simulation.beat()]
        simulation.run(beats, NOON + 2 * HOUR)
        simulation.set_clock(-3_600)
        simulation.run(beats, NOON + 4 * HOUR)
        assert simulation.fires() == [NOON + timedelta(minutes=10 * number) for number in range(1, 25)]

    def test_forward_makes_no_gaps(self) -> None:
        simulation = Simulation([daily("*/10 * * * *", misfire="all")])
        beats = [simulation.beat(), simulation.beat()]
        simulation.run(beats, NOON + HOUR)
        simulation.set_clock(3_600)
        simulation.run(beats, NOON + 4 * HOUR)
        assert simulation.fires() == [NOON + timedelta(minutes=10 * number) for number in range(1, 25)]


class TestOverlap:
    def test_skip_makes_none_while_the_last_is_open(self) -> None:
        simulation = Simulation([daily(overlap="skip")])
        beats = [simulation.beat(), simulation.beat()]
        simulation.run(beats, NOON + 3 * HOUR)
        assert simulation.fires() == HOURS[:1]
        assert simulation.state().skipped == 2
        finish(simulation, simulation.created()[0])
        simulation.run(beats, NOON + 4 * HOUR)
        assert simulation.fires() == [HOURS[0], HOURS[3]]

    def test_skip_catches_up_one_at_a_time(self) -> None:
        simulation = Simulation([daily(overlap="skip", misfire="all")])
        simulation.tick(simulation.beat())
        simulation.advance(3 * 3_600 + 600)
        simulation.tick(simulation.beat())
        assert (simulation.state().created, simulation.state().skipped) == (1, 2)

    def test_skip_needs_a_creator_that_can_look_jobs_up(self) -> None:
        simulation = Simulation([daily(overlap="skip")])
        blind = FailingJobs(simulation.jobs, random.Random(0), 0.0)  # noqa: S311  # chances, not secrets
        with pytest.raises(ConfigurationError, match="no JobReader"):
            simulation.beat(blind)


class Refusing(JobCreator):
    """Refuses the jobs of one type."""

    def __init__(self, jobs: JobCreator) -> None:
        self._jobs = jobs
        self.refused = 0

    async def create_job(
        self, job_type: str, payload: dict[str, Any], queue_name: str = "default", priority: int = 0, **kwargs: Any
    ) -> Job:
        if job_type == "refused":
            self.refused += 1
            raise ValidationError("not this one")
        return await self._jobs.create_job(job_type, payload, queue_name, priority, **kwargs)


class TestOneThatFails:
    def test_the_others_go_on_and_it_is_tried_again_ever_more_seldom(self) -> None:
        simulation = Simulation([daily(name="bad", job_type="refused"), daily("*/10 * * * *", name="good")])
        refusing = Refusing(simulation.jobs)
        beat = simulation.beat(refusing)
        simulation.run([beat], NOON + 2 * HOUR)
        assert len(simulation.fires("good")) == 12
        assert not simulation.fires("bad")
        assert 60 < refusing.refused < 80
        assert beat.health.errors == refusing.refused
        assert beat.health.jobs_created == 12


class Noting(JobService):
    """Fails at one step: a call of the store of schedules, or the job of one fire time."""

    def __init__(self, jobs: JobService, *, fails: str) -> None:
        super().__init__(jobs._job_queue)
        self._fails = fails

    async def create_once(
        self, job_type: str, payload: dict[str, Any], *arguments: Any, job_id: Any, **kwargs: Any
    ) -> tuple[Job, bool]:
        if kwargs["metadata"]["scheduled_for"] == self._fails:
            raise StoreUnavailable("away")
        return await super().create_once(job_type, payload, *arguments, job_id=job_id, **kwargs)

    async def schedules(self, call: Callable[[ScheduleStore], T]) -> T:
        return await super().schedules(lambda store: call(cast("ScheduleStore", FailingAt(store, self._fails))))


class FailingAt:
    """A store of schedules one of whose methods fails."""

    def __init__(self, store: ScheduleStore, method: str) -> None:
        self._store = store
        self._method = method

    def __getattr__(self, name: str) -> Any:
        if name == self._method:
            raise StoreUnavailable("away")
        return getattr(self._store, name)


class TestAtRunTime:
    def test_a_paused_one_makes_none_and_what_it_missed_is_not_made_up_for(self) -> None:
        simulation = Simulation([daily(misfire="all")])
        beats = [simulation.beat(), simulation.beat()]
        simulation.run(beats, NOON + HOUR)
        assert asyncio.run(simulation.service.pause("daily"))
        simulation.run(beats, NOON + 3 * HOUR)
        assert asyncio.run(simulation.service.resume("daily"))
        simulation.run(beats, NOON + 5 * HOUR)
        assert simulation.fires() == [HOURS[0], HOURS[3], HOURS[4]]

    @pytest.mark.parametrize(
        ("settings", "made"), [({}, [HOURS[2]]), ({"misfire": "skip"}, []), ({"misfire": "all"}, HOURS[:3])]
    )
    @pytest.mark.parametrize("when", ["a beat comes back while it is paused", "it is resumed", "paused anew"])
    def test_what_was_due_before_it_was_paused_is_settled_by_the_policy(
        self, settings: dict[str, Any], made: list[datetime], when: str
    ) -> None:
        simulation = Simulation([daily(**settings)])
        simulation.tick(simulation.beat())
        simulation.advance(3 * 3_600 + 600)
        asyncio.run(simulation.service.pause("daily"))
        simulation.advance(2 * 3_600)
        if when == "a beat comes back while it is paused":
            simulation.tick(simulation.beat())
            assert simulation.state().paused
            assert (simulation.fires(), simulation.state().missed) == (made, 3 - len(made))
        assert asyncio.run(simulation.service.resume("daily"))
        if when == "paused anew":
            asyncio.run(simulation.service.pause("daily"))
            asyncio.run(simulation.service.resume("daily"))
        assert (simulation.fires(), simulation.state().missed) == (made, 3 - len(made))
        simulation.run([simulation.beat()], NOON + 6 * HOUR)
        assert (simulation.fires(), simulation.state().missed) == ([*made, HOURS[5]], 3 - len(made))
        assert simulation.state().created == len(made) + 1

    def test_what_was_due_before_it_was_paused_is_counted_where_it_is_not_enabled(self) -> None:
        simulation = Simulation([daily(misfire="all", enabled=False, start_at=NOON - 2 * HOUR)])
        asyncio.run(simulation.service.pause("daily"))
        simulation.advance(3_600)
        assert asyncio.run(simulation.service.resume("daily"))
        assert (simulation.created(), simulation.state().missed) == ([], 3)

    def test_a_store_that_fails_while_it_is_resumed_leaves_it_paused(self) -> None:
        simulation = Simulation([daily(misfire="all")])
        simulation.tick(simulation.beat())
        simulation.advance(3_600)
        asyncio.run(simulation.service.pause("daily"))
        failing = Noting(simulation.jobs, fails="settle")
        with pytest.raises(StoreUnavailable):
            asyncio.run(simulation.service_of(failing).resume("daily"))
        assert simulation.state().paused
        assert asyncio.run(simulation.service.resume("daily"))
        assert (simulation.fires(), simulation.state().created) == (HOURS[:1], 1)

    def test_one_may_be_paused_before_any_beat_has_seen_it(self) -> None:
        simulation = Simulation([daily()])
        assert asyncio.run(simulation.service.pause("daily"))
        assert not asyncio.run(simulation.service.pause("daily"))
        simulation.run([simulation.beat()], NOON + 3 * HOUR)
        assert not simulation.created()

    def test_run_makes_a_job_beside_the_fire_times(self) -> None:
        simulation = Simulation([daily(overlap="skip")])
        job = asyncio.run(simulation.service.run("daily"))
        assert job.metadata == {"schedule": "daily", "scheduled_for": NOON.isoformat(), "manual": True}
        simulation.run([simulation.beat()], NOON + HOUR)
        assert simulation.state().skipped == 1, "the one that was wanted now is open"
        finish(simulation, job)
        simulation.run([simulation.beat()], NOON + 2 * HOUR)
        assert simulation.fires() == [NOON, HOURS[1]]

    def test_skip_waits_for_the_job_that_was_made_last_also_after_one_by_hand(self) -> None:
        simulation = Simulation([daily(overlap="skip")])
        simulation.tick(simulation.beat())
        simulation.advance(3_600 + 600)
        by_hand = asyncio.run(simulation.service.run("daily"))
        finish(simulation, by_hand)
        beat = simulation.beat()
        simulation.tick(beat)  # 13:00, ten minutes late, and later than that is the one by hand
        simulation.run([beat], NOON + 2 * HOUR)
        assert simulation.fires() == [HOURS[0], HOURS[0] + timedelta(minutes=10)]
        assert simulation.state().skipped == 1

    def test_a_job_by_hand_is_no_fire(self) -> None:
        simulation = Simulation([daily()])
        job = asyncio.run(simulation.service.run("daily"))
        state = simulation.state()
        assert (state.last_fire, state.last_job_id, state.created) == (None, job.id, 0)

    def test_skip_waits_for_what_backfill_made(self) -> None:
        simulation = Simulation([daily(overlap="skip")])
        [done] = asyncio.run(simulation.service.backfill("daily", NOON, NOON))
        state = simulation.state()
        assert (state.last_fire, state.last_job_id, state.created) == (NOON, done.job.id, 1)
        simulation.run([simulation.beat()], NOON + HOUR)
        assert (simulation.fires(), simulation.state().skipped) == ([NOON], 1)

    def test_backfill_that_finds_all_there_changes_nothing(self) -> None:
        simulation = Simulation([daily()])
        simulation.run([simulation.beat()], NOON + 2 * HOUR)
        before = simulation.state()
        asyncio.run(simulation.service.backfill("daily", HOURS[0], HOURS[0]))
        assert simulation.state() == before

    def test_a_job_that_can_not_be_noted_is_made_all_the_same(self, caplog: pytest.LogCaptureFixture) -> None:
        simulation = Simulation([daily(overlap="skip")])
        service = simulation.service_of(Noting(simulation.jobs, fails="note"))
        job = asyncio.run(service.run("daily"))
        [done] = asyncio.run(service.backfill("daily", NOON, NOON))
        assert [one.id for one in simulation.created()] == [job.id, done.job.id]
        assert caplog.text.count("event=schedule_job_not_noted") == 2
        assert "the job was made" in caplog.text

    def test_what_backfill_made_before_it_failed_is_noted(self) -> None:
        simulation = Simulation([daily()])
        failing = Noting(simulation.jobs, fails=HOURS[1].isoformat())
        simulation.advance(3 * 3_600)
        with pytest.raises(StoreUnavailable):
            asyncio.run(simulation.service_of(failing).backfill("daily", HOURS[0], HOURS[2]))
        state = simulation.state()
        assert (state.created, state.last_fire) == (2, HOURS[2])

    def test_backfill_makes_each_missing_fire_time_once(self) -> None:
        simulation = Simulation([daily(misfire="skip")])
        simulation.tick(simulation.beat())
        simulation.advance(3 * 3_600)
        simulation.tick(simulation.beat())  # 15:00 is on time; 13:00 and 14:00 are missed
        done = asyncio.run(simulation.service.backfill("daily", NOON - HOUR, NOON + 9 * HOUR))
        assert [(one.fire, one.created) for one in done] == [
            (NOON - HOUR, True),
            (NOON, True),
            (HOURS[0], True),
            (HOURS[1], True),
            (HOURS[2], False),
        ]
        assert not any(one.created for one in asyncio.run(simulation.service.backfill("daily", NOON - HOUR, NOON)))
        assert len(simulation.fires()) == 5

    def test_backfill_refuses_more_than_it_can_do_at_once(self) -> None:
        simulation = Simulation([daily("* * * * *")])
        with pytest.raises(ValidationError, match="10,000 fire times"):
            asyncio.run(simulation.service.backfill("daily", NOON - timedelta(days=8), NOON))

    def test_the_list_tells_how_each_stands(self) -> None:
        simulation = Simulation([daily(), daily(name="off", enabled=False), daily(name="held")])
        asyncio.run(simulation.service.pause("held"))
        simulation.run([simulation.beat()], NOON + HOUR)
        views = {view.config.name: view for view in asyncio.run(simulation.service.list_schedules())}
        assert {name: view.next_fire for name, view in views.items()} == {
            "daily": HOURS[1],
            "held": None,
            "off": None,
        }
        assert views["daily"].state.last_fire == HOURS[0]
        assert asyncio.run(simulation.service.get_schedule("held")).state.paused

    def test_looking_at_a_new_one_does_not_begin_it(self) -> None:
        simulation = Simulation([daily(misfire="all")])
        [view] = asyncio.run(simulation.service.list_schedules())
        assert view == asyncio.run(simulation.service.get_schedule("daily"))
        assert (view.state.settled_until, view.next_fire) == (NOON, HOURS[0])
        assert simulation.store.schedules().read(["daily"]) == {}
        simulation.advance(2 * 3_600)
        simulation.tick(simulation.beat())
        assert not simulation.created()

    def test_one_that_is_forgotten_begins_anew_and_loses_no_fire_time(self) -> None:
        simulation = Simulation([daily(misfire="all")])
        assert not asyncio.run(simulation.service.forget("daily")), "nothing is remembered so far"
        simulation.tick(simulation.beat())
        asyncio.run(simulation.service.pause("daily"))
        simulation.advance(2 * 3_600 + 600)
        assert asyncio.run(simulation.service.forget("daily"))
        beat = simulation.beat()
        simulation.run([beat], NOON + 3 * HOUR)
        assert asyncio.run(simulation.service.forget("daily"))
        simulation.run([beat], NOON + 4 * HOUR)
        assert simulation.fires() == HOURS[2:4]
        assert simulation.state().created == 1

    def test_a_name_that_the_program_no_longer_has_may_be_forgotten(self) -> None:
        simulation = Simulation([daily()])
        simulation.run([simulation.beat()], NOON + HOUR)
        later = Simulation([daily(name="other")], shared=simulation.store)
        assert asyncio.run(later.service.forget("daily"))
        with pytest.raises(ResourceNotFoundError, match=r"'daily'.*known: 'other'"):
            asyncio.run(later.service.forget("daily"))

    def test_the_next_fire_times(self) -> None:
        simulation = Simulation([daily(end_at=NOON + 3 * HOUR)])
        assert simulation.service.next_fires("daily", 5, after=NOON) == HOURS[:3]
        with pytest.raises(ValidationError, match="count"):
            simulation.service.next_fires("daily", 0)

    def test_an_unknown_name_tells_the_known_ones(self) -> None:
        simulation = Simulation([daily()])
        for call in (simulation.service.pause, simulation.service.run, simulation.service.get_schedule):
            with pytest.raises(ResourceNotFoundError, match=r"no schedule 'nightly'.*'daily'"):
                asyncio.run(call("nightly"))


def test_a_sub_minute_source_is_driven_as_any_other() -> None:
    simulation = Simulation([daily(misfire="all")], fire_times=EverySeconds(1))
    simulation.run([simulation.beat() for _ in range(3)], NOON + timedelta(seconds=120))
    assert len(simulation.fires()) == len(set(simulation.fires())) == 120


def test_an_answer_that_took_longer_is_not_a_clock_that_was_set_back() -> None:
    simulation = Simulation([daily()])
    beat = simulation.beat()
    simulation.tick(beat)
    agenda = beat._agenda
    simulation.monotonic += 10
    simulation.now -= timedelta(seconds=0.5)
    simulation.tick(beat)
    assert beat._agenda is agenda
    simulation.monotonic += 10
    simulation.now -= timedelta(seconds=60)
    simulation.tick(beat)
    assert beat._agenda is not agenda
