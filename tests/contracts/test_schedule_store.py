"""What every store promises of schedules."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from portico_celery.exceptions import NotSupported
from portico_celery.ports.job_store import JobStore
from portico_celery.ports.schedule_store import FirstSight, JobNote, ScheduleState, ScheduleStore, Settlement
from tests.contracts.stores import SERVERS, STORES, StoreUnderTest

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture(params=STORES)
def jobs(request: pytest.FixtureRequest) -> Iterator[StoreUnderTest]:
    place = request.getfixturevalue(SERVERS.get(request.param, "tmp_path"))
    with STORES[request.param](place) as under_test:
        yield under_test


@pytest.fixture
def schedules(jobs: StoreUnderTest) -> ScheduleStore:
    return jobs.store.schedules()


def begin(schedules: ScheduleStore, *names: str, settled_until: datetime = NOON) -> None:
    schedules.begin([FirstSight(name=name, settled_until=settled_until) for name in names])


def state(schedules: ScheduleStore, name: str = "daily") -> ScheduleState:
    return schedules.read([name])[name]


def paused_at(schedules: ScheduleStore) -> datetime:
    moment = state(schedules).paused_at
    assert moment is not None
    return moment


class TestBeginning:
    def test_a_new_one_counts_from_where_it_was_first_seen(self, schedules: ScheduleStore) -> None:
        begin(schedules, "daily")
        assert state(schedules) == ScheduleState(name="daily", settled_until=NOON)

    def test_one_that_is_known_stays_as_it_is(self, schedules: ScheduleStore) -> None:
        begin(schedules, "daily")
        begin(schedules, "daily", "hourly", settled_until=NOON + MINUTE)
        assert state(schedules).settled_until == NOON
        assert state(schedules, "hourly").settled_until == NOON + MINUTE

    def test_names_that_are_unknown_are_left_out(self, schedules: ScheduleStore) -> None:
        assert schedules.read(["daily"]) == {}
        assert schedules.read([]) == {}
        begin(schedules)
        assert schedules.settle([]) == []

    def test_a_name_may_be_any_text(self, schedules: ScheduleStore) -> None:
        names = ["report.daily 0 9 * * * Europe/Berlin", "ünï-çødé 'quoted' \\ : {}", "x" * 320]
        begin(schedules, *names)
        assert set(schedules.read(names)) == set(names)

    def test_there_may_be_thousands(self, schedules: ScheduleStore) -> None:
        names = [f"schedule-{number}" for number in range(2_500)]
        begin(schedules, *names)
        assert set(schedules.read(names)) == set(names)

    def test_the_clock_is_the_job_stores_own(self, jobs: StoreUnderTest, schedules: ScheduleStore) -> None:
        jobs.advance(3_600)
        assert jobs.is_now(schedules.clock())
        assert schedules.clock().utcoffset() == timedelta(0)


class TestSettling:
    def test_it_takes_effect_once(self, schedules: ScheduleStore) -> None:
        begin(schedules, "daily")
        job_id = uuid4()
        settlement = Settlement(
            name="daily",
            seen=NOON,
            settled_until=NOON + MINUTE,
            fire=NOON + MINUTE,
            job_id=job_id,
            created=1,
            missed=2,
            skipped=3,
        )
        assert schedules.settle([settlement]) == [True]
        assert schedules.settle([settlement]) == [False]
        assert state(schedules) == ScheduleState(
            name="daily",
            settled_until=NOON + MINUTE,
            last_fire=NOON + MINUTE,
            last_job_id=job_id,
            created=1,
            missed=2,
            skipped=3,
        )

    def test_a_microsecond_makes_a_difference(self, schedules: ScheduleStore) -> None:
        begin(schedules, "daily")
        wrong = NOON + timedelta(microseconds=1)
        assert schedules.settle([Settlement(name="daily", seen=wrong, settled_until=NOON + MINUTE)]) == [False]
        assert state(schedules).settled_until == NOON

    def test_the_last_job_is_noted_even_where_others_were_faster(self, schedules: ScheduleStore) -> None:
        begin(schedules, "daily")
        assert schedules.settle([Settlement(name="daily", seen=NOON, settled_until=NOON + MINUTE, skipped=1)]) == [True]
        job_id = uuid4()
        late = Settlement(
            name="daily", seen=NOON, settled_until=NOON + MINUTE, fire=NOON + MINUTE, job_id=job_id, created=1
        )
        assert schedules.settle([late]) == [False]
        found = state(schedules)
        assert (found.last_fire, found.last_job_id, found.created, found.skipped) == (NOON + MINUTE, job_id, 0, 1)

    def test_its_job_is_the_last_one_where_it_takes_effect(self, schedules: ScheduleStore) -> None:
        # Also after one by hand that was made later than its fire time.
        begin(schedules, "daily")
        schedules.note(JobNote(name="daily", job_id=uuid4()))
        schedules.settle(
            [Settlement(name="daily", seen=NOON, settled_until=NOON + MINUTE, fire=NOON + 2 * MINUTE, job_id=uuid4())]
        )
        job_id = uuid4()
        caught_up = Settlement(
            name="daily", seen=NOON + MINUTE, settled_until=NOON + MINUTE, fire=NOON + MINUTE, job_id=job_id, created=1
        )
        assert schedules.settle([caught_up]) == [True]
        found = state(schedules)
        assert (found.last_job_id, found.last_fire) == (job_id, NOON + 2 * MINUTE)

    def test_one_that_made_nothing_leaves_the_last_job(self, schedules: ScheduleStore) -> None:
        begin(schedules, "daily")
        job_id = uuid4()
        schedules.note(JobNote(name="daily", job_id=job_id))
        assert schedules.settle([Settlement(name="daily", seen=NOON, settled_until=NOON + MINUTE, skipped=1)]) == [True]
        assert (state(schedules).last_job_id, state(schedules).last_fire) == (job_id, None)

    def test_an_older_job_is_not_the_last(self, schedules: ScheduleStore) -> None:
        begin(schedules, "daily")
        newer, older = uuid4(), uuid4()
        for job_id, fire in ((newer, NOON + 2 * MINUTE), (older, NOON + MINUTE)):
            schedules.settle(
                [Settlement(name="daily", seen=NOON, settled_until=NOON + 2 * MINUTE, fire=fire, job_id=job_id)]
            )
        assert (state(schedules).last_job_id, state(schedules).last_fire) == (newer, NOON + 2 * MINUTE)

    def test_many_settle_at_once_each_for_itself(self, schedules: ScheduleStore) -> None:
        begin(schedules, "b", "a")
        settlements = [
            Settlement(name="b", seen=NOON, settled_until=NOON + MINUTE),
            Settlement(name="unknown", seen=NOON, settled_until=NOON + MINUTE),
            Settlement(name="a", seen=NOON - MINUTE, settled_until=NOON + MINUTE),
        ]
        assert schedules.settle(settlements) == [True, False, False]
        assert schedules.read(["unknown"]) == {}

    def test_of_many_beats_one_settles(self, jobs: StoreUnderTest) -> None:
        begin(jobs.store.schedules(), "daily")
        ready = threading.Barrier(4)

        def settle(number: int) -> int:
            ready.wait(10)
            settlement = Settlement(name="daily", seen=NOON, settled_until=NOON + number * MINUTE, created=number)
            return number if jobs.store.schedules().settle([settlement]) == [True] else 0

        with ThreadPoolExecutor(4) as beats:
            won = [number for number in beats.map(settle, range(1, 5)) if number]
        assert len(won) == 1
        found = state(jobs.store.schedules())
        assert (found.settled_until, found.created) == (NOON + won[0] * MINUTE, won[0])


class TestNoting:
    def test_a_job_by_hand_is_the_last_job_and_no_fire(self, schedules: ScheduleStore) -> None:
        begin(schedules, "daily")
        schedules.settle(
            [Settlement(name="daily", seen=NOON, settled_until=NOON + MINUTE, fire=NOON + MINUTE, job_id=uuid4())]
        )
        before, job_id = state(schedules), uuid4()
        schedules.note(JobNote(name="daily", job_id=job_id))
        assert state(schedules) == replace(before, last_job_id=job_id)

    def test_jobs_of_the_past_are_counted_and_the_newest_fire_time_stays(self, schedules: ScheduleStore) -> None:
        begin(schedules, "daily")
        newer, older = uuid4(), uuid4()
        schedules.note(JobNote(name="daily", job_id=newer, fire=NOON - MINUTE, created=2))
        assert state(schedules) == ScheduleState(
            name="daily", settled_until=NOON, last_fire=NOON - MINUTE, last_job_id=newer, created=2
        )
        schedules.note(JobNote(name="daily", job_id=older, fire=NOON - 2 * MINUTE, created=1))
        found = state(schedules)
        assert (found.last_fire, found.last_job_id, found.created) == (NOON - MINUTE, older, 3)

    def test_what_is_unknown_stays_so(self, schedules: ScheduleStore) -> None:
        schedules.note(JobNote(name="daily", job_id=uuid4(), fire=NOON, created=1))
        assert schedules.read(["daily"]) == {}


class TestWhatIsOwed:
    def decided(self, **settings: datetime | None) -> Settlement:
        moments = {"seen": NOON, "settled_until": NOON + MINUTE, **settings}
        return Settlement(name="daily", **moments)  # type: ignore[arg-type]  # they are moments

    def test_it_is_remembered_until_it_is_made(self, schedules: ScheduleStore) -> None:
        begin(schedules, "daily")
        owed_until = NOON + timedelta(hours=1, microseconds=1)
        assert schedules.settle([self.decided(owed_until=owed_until)]) == [True]
        assert (state(schedules).settled_until, state(schedules).owed_until) == (NOON + MINUTE, owed_until)
        made = self.decided(seen=NOON + MINUTE, settled_until=owed_until, seen_owed_until=owed_until)
        assert schedules.settle([made]) == [True]
        assert (state(schedules).settled_until, state(schedules).owed_until) == (owed_until, None)

    def test_of_several_beats_one_decides(self, schedules: ScheduleStore) -> None:
        # Also where nothing is given up, so that settled_until stays as it was.
        begin(schedules, "daily")
        decisions = [self.decided(settled_until=NOON, owed_until=NOON + number * MINUTE) for number in (1, 2)]
        assert schedules.settle(decisions) == [True, False]
        assert schedules.settle([self.decided()]) == [False]
        assert schedules.settle([self.decided(seen_owed_until=NOON + 2 * MINUTE)]) == [False]
        assert state(schedules) == ScheduleState(name="daily", settled_until=NOON, owed_until=NOON + MINUTE)


class TestRestarting:
    def test_it_counts_from_now_on_whatever_was_settled(self, jobs: StoreUnderTest, schedules: ScheduleStore) -> None:
        for name, ahead in (("daily", timedelta(days=365)), ("behind", -timedelta(days=365))):
            begin(schedules, name, settled_until=jobs.now() + ahead)
            assert schedules.restart(name)
            assert jobs.is_now(state(schedules, name).settled_until)

    def test_a_fire_time_ahead_is_not_the_last_for_ever(self, jobs: StoreUnderTest, schedules: ScheduleStore) -> None:
        begin(schedules, "daily")
        ahead, first, second = jobs.now() + timedelta(days=365), uuid4(), uuid4()
        made = Settlement(
            name="daily", seen=NOON, settled_until=ahead, owed_until=ahead, fire=ahead, job_id=first, created=3
        )
        schedules.settle([made])
        schedules.restart("daily")
        restarted = state(schedules)
        assert jobs.is_now(restarted.last_fire)
        assert (restarted.last_job_id, restarted.created, restarted.owed_until) == (first, 3, None)
        soon = restarted.settled_until + MINUTE
        next_one = Settlement(name="daily", seen=restarted.settled_until, settled_until=soon, fire=soon, job_id=second)
        assert schedules.settle([next_one]) == [True]
        assert (state(schedules).last_fire, state(schedules).last_job_id) == (soon, second)

    def test_a_fire_time_of_the_past_stays_the_last(self, schedules: ScheduleStore) -> None:
        begin(schedules, "daily", "unfired")
        schedules.settle([Settlement(name="daily", seen=NOON, settled_until=NOON, fire=NOON, job_id=uuid4())])
        schedules.pause("daily")
        assert schedules.restart("daily")
        assert schedules.restart("unfired")
        assert (state(schedules).last_fire, state(schedules).paused) == (NOON, True)
        assert state(schedules, "unfired").last_fire is None

    def test_what_is_unknown_is_not_restarted(self, schedules: ScheduleStore) -> None:
        assert not schedules.restart("daily")
        assert schedules.read(["daily"]) == {}


class TestPausing:
    def test_pausing_and_resuming_take_effect_once(self, jobs: StoreUnderTest, schedules: ScheduleStore) -> None:
        begin(schedules, "daily")
        assert [schedules.pause("daily"), schedules.pause("daily")] == [True, False]
        found = state(schedules)
        assert found.paused
        assert found.paused_at is not None
        assert jobs.is_now(found.paused_at)
        assert found.settled_until == NOON
        assert [schedules.resume("daily", found.paused_at), schedules.resume("daily", found.paused_at)] == [True, False]
        assert state(schedules).paused_at is None

    def test_since_when_it_is_paused_stays_as_it_was(self, jobs: StoreUnderTest, schedules: ScheduleStore) -> None:
        begin(schedules, "daily")
        schedules.pause("daily")
        before = state(schedules)
        jobs.advance(60)
        schedules.pause("daily")
        assert state(schedules) == before

    def test_one_that_was_paused_anew_stays_so(self, jobs: StoreUnderTest, schedules: ScheduleStore) -> None:
        begin(schedules, "daily")
        schedules.pause("daily")
        first = paused_at(schedules)
        jobs.advance(60)
        assert schedules.resume("daily", first)
        schedules.pause("daily")
        assert not schedules.resume("daily", first)
        assert state(schedules).paused

    def test_what_was_due_before_it_was_paused_can_be_settled(self, schedules: ScheduleStore) -> None:
        begin(schedules, "daily")
        schedules.pause("daily")
        assert schedules.settle([Settlement(name="daily", seen=NOON, settled_until=NOON + MINUTE, missed=1)]) == [True]
        found = state(schedules)
        assert (found.settled_until, found.missed, found.paused) == (NOON + MINUTE, 1, True)

    def test_what_is_unknown_is_not_paused(self, schedules: ScheduleStore) -> None:
        assert not schedules.pause("daily")
        assert not schedules.resume("daily", NOON)
        assert schedules.read(["daily"]) == {}

    def test_what_it_missed_is_settled_when_it_is_resumed(self, jobs: StoreUnderTest, schedules: ScheduleStore) -> None:
        begin(schedules, "daily", settled_until=jobs.now())
        schedules.pause("daily")
        jobs.advance(7_200)
        schedules.resume("daily", paused_at(schedules))
        assert jobs.is_now(state(schedules).settled_until)

    def test_what_is_owed_is_settled_when_it_is_resumed(self, schedules: ScheduleStore) -> None:
        begin(schedules, "daily")
        schedules.settle([Settlement(name="daily", seen=NOON, settled_until=NOON, owed_until=NOON + MINUTE)])
        schedules.pause("daily")
        assert state(schedules).owed_until == NOON + MINUTE
        schedules.resume("daily", paused_at(schedules))
        assert state(schedules).owed_until is None

    def test_what_is_settled_for_later_stays_so(self, jobs: StoreUnderTest, schedules: ScheduleStore) -> None:
        later = jobs.now().replace(microsecond=17) + timedelta(hours=1)
        begin(schedules, "daily", settled_until=later)
        schedules.pause("daily")
        schedules.resume("daily", paused_at(schedules))
        assert state(schedules).settled_until == later


class TestForgetting:
    def test_it_takes_effect_once_and_what_is_met_again_is_new(self, schedules: ScheduleStore) -> None:
        begin(schedules, "daily", "hourly")
        schedules.note(JobNote(name="daily", job_id=uuid4(), fire=NOON, created=1))
        schedules.pause("daily")
        assert [schedules.forget("daily"), schedules.forget("daily")] == [True, False]
        assert set(schedules.read(["daily", "hourly"])) == {"hourly"}
        begin(schedules, "daily", settled_until=NOON + MINUTE)
        assert state(schedules) == ScheduleState(name="daily", settled_until=NOON + MINUTE)

    def test_what_a_beat_has_under_way_does_not_bring_it_back(self, schedules: ScheduleStore) -> None:
        begin(schedules, "daily")
        schedules.forget("daily")
        late = Settlement(name="daily", seen=NOON, settled_until=NOON + MINUTE, fire=NOON + MINUTE, job_id=uuid4())
        assert schedules.settle([late]) == [False]
        assert schedules.read(["daily"]) == {}


def test_a_store_of_somebody_elses_says_that_it_keeps_none() -> None:
    with pytest.raises(NotSupported, match="keeps no state of schedules"):
        JobStore.schedules(object())  # type: ignore[arg-type]  # the default, whatever the store
