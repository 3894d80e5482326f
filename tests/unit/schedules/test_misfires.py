"""What becomes of fire times that nobody was there for."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico_celery.adapters.job_trigger.schedule_trigger.cron_fire_times import read_fire_times
from portico_celery.scheduling.due import Due, due
from portico_celery.scheduling.schedule import Schedule
from tests.schedule_simulation import NOON, EverySeconds, daily

HOUR = timedelta(hours=1)


def a_schedule(**settings: Any) -> Schedule:
    config = daily(**settings)
    return Schedule(config=config, fire_times=read_fire_times(config))


def clock_times(found: Due) -> list[int]:
    return [fire.hour for fire in found.fires]


class TestThreeFireTimesWithNoBeat:
    # 13:00, 14:00 and 15:00, and it is ten past.
    NOW = NOON + 3 * HOUR + timedelta(minutes=10)

    @pytest.mark.parametrize(
        ("settings", "made", "missed"),
        [
            ({}, [15], 2),
            ({"misfire": "once"}, [15], 2),
            ({"misfire": "skip"}, [], 3),
            ({"misfire": "all"}, [13, 14, 15], 0),
            ({"misfire": "all", "max_catchup": 2}, [14, 15], 1),
            ({"misfire": "all", "max_catchup": 1}, [15], 2),
            # The newest is on time, and is what a "once" would have made up for.
            ({"misfire": "once", "misfire_grace": 1_000}, [15], 2),
            ({"misfire": "skip", "misfire_grace": 1_000}, [15], 2),
            ({"misfire": "all", "max_catchup": 2, "misfire_grace": 1_000}, [14, 15], 1),
            ({"misfire": "skip", "misfire_grace": 100_000}, [13, 14, 15], 0),
        ],
    )
    def test_the_policy_says_which_are_made_up_for(
        self, settings: dict[str, Any], made: list[int], missed: int
    ) -> None:
        found = due(a_schedule(**settings), NOON, self.NOW)
        assert (clock_times(found), found.missed) == (made, missed)
        assert found.settled_until == NOON + 3 * HOUR


class TestWhatIsDue:
    def test_nothing_before_its_time(self) -> None:
        before = NOON + HOUR - timedelta(microseconds=1)
        assert due(a_schedule(), NOON, before) == Due()

    def test_the_very_moment_is_on_time(self) -> None:
        assert clock_times(due(a_schedule(misfire="skip", misfire_grace=0), NOON, NOON + HOUR)) == [13]

    def test_what_is_settled_is_not_due_again(self) -> None:
        assert due(a_schedule(), NOON + HOUR, NOON + HOUR).settled_until is None

    def test_nothing_outside_its_window(self) -> None:
        schedule = a_schedule(misfire="all", start_at=NOON + 2 * HOUR, end_at=NOON + 4 * HOUR)
        assert clock_times(due(schedule, NOON, NOON + 9 * HOUR)) == [14, 15, 16]

    def test_a_year_of_minutes_is_counted_bit_by_bit_and_not_kept(self) -> None:
        schedule = a_schedule(cron="* * * * *", misfire="all", max_catchup=3)
        settled_until, missed, calls = NOON, 0, 0
        while True:
            found = due(schedule, settled_until, NOON + timedelta(days=366))
            missed, calls = missed + found.missed, calls + 1
            if found.fires:
                break
            assert found.settled_until is not None
            settled_until = found.settled_until
        assert (len(found.fires), missed) == (3, 366 * 24 * 60 - 3)
        assert calls > 50

    def test_more_than_a_call_may_name_are_owed_and_then_named_whatever_the_time(self) -> None:
        schedule = a_schedule(misfire="all", max_catchup=5)
        found = due(schedule, NOON, NOON + 20 * HOUR, most=2)
        assert found == Due(missed=15, missed_until=NOON + 15 * HOUR, owed_until=NOON + 20 * HOUR)
        named: list[datetime] = []
        settled_until, owed_until = NOON + 15 * HOUR, found.owed_until
        while owed_until is not None:
            found = due(schedule, settled_until, NOON + 1_000 * HOUR, owed_until=owed_until, most=2)
            assert found.settled_until is not None
            assert (found.missed, len(found.fires) <= 2) == (0, True)
            named += found.fires
            settled_until, owed_until = found.settled_until, found.owed_until
        assert named == [NOON + number * HOUR for number in range(16, 21)]

    @pytest.mark.parametrize(("misfire", "made", "missed"), [("skip", [], 20), ("once", [8], 19)])
    def test_what_is_owed_is_subject_to_the_policy_that_the_schedule_has_by_now(
        self, misfire: str, made: list[int], missed: int
    ) -> None:
        then, now = NOON + 20 * HOUR, NOON + 20 * HOUR + timedelta(minutes=10)
        found = due(a_schedule(misfire=misfire, misfire_grace=0), NOON, now, owed_until=then + HOUR / 10, most=50)
        assert (clock_times(found), found.missed, found.owed_until) == (made, missed, None)

    def test_counting_what_is_owed_and_given_up_has_slices_too(self) -> None:
        schedule = a_schedule(misfire="skip")
        found = due(schedule, NOON, NOON + 1_000 * HOUR, owed_until=NOON + 500 * HOUR, most=2)
        assert (found.missed, found.owed_until) == (200, NOON + 500 * HOUR)

    def test_nothing_where_it_was_paused_while_the_clock_was_ahead(self) -> None:
        now = NOON + 3 * HOUR
        assert due(a_schedule(misfire="all"), NOON, now, paused_at=now + HOUR) == Due()

    @pytest.mark.parametrize("owed_until", [NOON + HOUR / 2, NOON + 4 * HOUR])
    def test_where_nothing_is_owed_or_only_in_the_future_the_policy_holds(self, owed_until: datetime) -> None:
        found = due(a_schedule(), NOON, NOON + 3 * HOUR, owed_until=owed_until)
        assert (clock_times(found), found.missed, found.owed_until) == ([15], 2, None)

    @given(
        st.sampled_from(["once", "skip", "all"]),
        st.integers(1, 20),
        st.floats(0, 100),
        st.floats(0, 100),
        st.integers(0, 60),
    )
    def test_all_that_is_due_is_either_made_or_missed(
        self, misfire: str, max_catchup: int, grace: float, seconds: float, settled: int
    ) -> None:
        config = daily(misfire=misfire, max_catchup=max_catchup, misfire_grace=grace)
        schedule = Schedule(config=config, fire_times=EverySeconds(7))
        start, now = NOON + timedelta(seconds=settled), NOON + timedelta(seconds=settled + seconds)
        found = due(schedule, start, now)
        all_due = list(schedule.between(start, now))
        on_time = [fire for fire in all_due if fire >= now - timedelta(seconds=grace)]
        assert list(found.fires) == all_due[len(all_due) - len(found.fires) :]
        assert found.missed == len(all_due) - len(found.fires)
        assert set(on_time) <= set(found.fires)
        made_up = {"skip": 0, "once": 1, "all": max_catchup}[misfire]
        assert len(found.fires) == max(len(on_time), min(made_up, len(all_due)))
        assert found.settled_until == (all_due[-1] if all_due else None)


class TestTheJobOfAFireTime:
    def test_its_id_is_the_same_for_all_beats_and_another_for_each_fire_time_and_name(self) -> None:
        ids = {a_schedule().job_id(NOON), a_schedule().job_id(NOON.astimezone(None))}
        assert len(ids) == 1
        assert a_schedule().job_id(NOON + HOUR) not in ids
        assert a_schedule(name="other").job_id(NOON) not in ids

    def test_jitter_is_the_same_each_time_and_spreads_over_its_range(self) -> None:
        schedule = a_schedule(jitter=60)
        fires = [NOON + number * HOUR for number in range(200)]

        def delays(one: Schedule) -> list[float]:
            return [(_scheduled_at(one, fire) - fire).total_seconds() for fire in fires]

        found = delays(schedule)
        assert found == delays(a_schedule(jitter=60))
        assert 0 <= min(found) < 10 < 50 < max(found) < 60

    def test_without_jitter_it_starts_at_once(self) -> None:
        assert "scheduled_at" not in a_schedule().job_arguments(NOON)


def _scheduled_at(schedule: Schedule, fire: datetime) -> datetime:
    moment = schedule.job_arguments(fire)["scheduled_at"]
    assert isinstance(moment, datetime)
    return moment
