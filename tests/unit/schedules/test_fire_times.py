"""When cron lines fire, held against an oracle that knows nothing of croniter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portico_celery.adapters.job_trigger.schedule_trigger.cron_fire_times import CronFireTimes, read_fire_times
from portico_celery.exceptions import ConfigurationError, InvalidSchedule
from portico_celery.ports.schedule import ScheduleConfig
from tests import cron_oracle

# Of the second of these changes the clocks by half an hour, of the third at midnight, of the fourth by a quarter past
# the hour, of the last but one by two hours; the last skipped a whole day, in 2011.
ZONES = {
    "Europe/Berlin": [datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)],
    "Australia/Lord_Howe": [datetime(2026, 4, 4, tzinfo=UTC), datetime(2026, 10, 3, tzinfo=UTC)],
    "Africa/Cairo": [datetime(2026, 4, 24, tzinfo=UTC), datetime(2026, 10, 29, tzinfo=UTC)],
    "Pacific/Chatham": [datetime(2026, 4, 4, tzinfo=UTC), datetime(2026, 9, 26, tzinfo=UTC)],
    "America/New_York": [datetime(2026, 3, 8, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)],
    "Antarctica/Troll": [datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)],
    "Pacific/Apia": [datetime(2011, 12, 30, tzinfo=UTC)],
    "UTC": [datetime(2026, 2, 28, tzinfo=UTC), datetime(2028, 2, 28, tzinfo=UTC)],
}


def fire_times(cron: str, zone: str = "UTC", name: str = "") -> CronFireTimes:
    return read_fire_times(ScheduleConfig(cron, "report.daily", {}, timezone=zone, name=name))


def fires(cron: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    source, found = fire_times(cron, zone), []
    moment = source.after(start)
    while moment is not None and moment <= end:
        found.append(moment)
        moment = source.after(moment)
    return found


def in_zone(cron: str, zone: str, start: datetime, count: int) -> list[str]:
    source, found, moment = fire_times(cron, zone), [], start
    for _ in range(count):
        following = source.after(moment)
        assert following is not None
        moment = following
        found.append(moment.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes"))
    return found


def a_field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.integers(1, high - low)
    stepped = st.tuples(st.one_of(st.just("*"), span), step).map(lambda parts: f"{parts[0]}/{parts[1]}")
    one = st.one_of(number.map(str), span, stepped)
    return st.one_of(st.just("*"), one, st.lists(one, min_size=2, max_size=3).map(",".join))


# A day field that is a step over all days counts as restricted for the one and as * for others: left out here.
_days = st.one_of(st.just("*"), st.just("L"), st.integers(1, 28).map(str), st.just("1-15"), st.just("1,15,L"))
_weekdays = st.one_of(st.just("*"), st.integers(0, 6).map(str), st.just("1-5"), st.just("0,3,6"))
lines = st.tuples(a_field(0, 59), a_field(0, 23), _days, a_field(1, 12), _weekdays).map(" ".join)
nights = st.sampled_from([(zone, night) for zone, times in ZONES.items() for night in times])


class TestAgainstTheOracle:
    @settings(max_examples=100, deadline=None)
    @given(lines, nights, st.integers(-36, 36), st.integers(0, 59))
    def test_the_fire_times_are_those_of_a_clock_in_the_zone(
        self, line: str, night: tuple[str, datetime], hours: int, seconds: int
    ) -> None:
        zone, around = night
        start = around + timedelta(hours=hours, seconds=seconds)
        end = start + timedelta(days=2)
        assert fires(line, zone, start, end) == cron_oracle.fires(line, ZoneInfo(zone), start, end)

    @settings(max_examples=200, deadline=None)
    @given(lines, nights, st.timedeltas(timedelta(days=-3), timedelta(days=3)))
    def test_the_next_one_is_later_and_does_not_depend_on_the_way_there(
        self, line: str, night: tuple[str, datetime], shift: timedelta
    ) -> None:
        zone, around = night
        moment = around + shift
        following = fire_times(line, zone).after(moment)
        assert following is not None
        assert following > moment
        assert following.second == following.microsecond == 0
        assert fire_times(line, zone).after(following - timedelta(microseconds=1)) == following


class TestTheNightsOfDaylightSavingTime:
    SPRING = datetime(2026, 3, 28, 12, tzinfo=UTC)
    AUTUMN = datetime(2026, 10, 24, 12, tzinfo=UTC)

    def test_a_fixed_hour_in_the_gap_fires_at_the_first_valid_moment(self) -> None:
        assert in_zone("30 2 * * *", "Europe/Berlin", self.SPRING, 2) == [
            "2026-03-29T03:00+02:00",
            "2026-03-30T02:30+02:00",
        ]

    def test_a_fixed_hour_that_comes_twice_fires_on_the_first_pass(self) -> None:
        assert in_zone("30 2 * * *", "Europe/Berlin", self.AUTUMN, 2) == [
            "2026-10-25T02:30+02:00",
            "2026-10-26T02:30+01:00",
        ]

    def test_the_times_that_the_gap_skips_are_made_up_for_once(self) -> None:
        assert in_zone("*/20 2,3 * * *", "Europe/Berlin", self.SPRING, 3) == [
            "2026-03-29T03:00+02:00",
            "2026-03-29T03:20+02:00",
            "2026-03-29T03:40+02:00",
        ]

    def test_a_half_hourly_one_fires_on_every_real_interval(self) -> None:
        for start in (self.SPRING, self.AUTUMN):
            found = fires("*/30 * * * *", "Europe/Berlin", start, start + timedelta(days=1))
            assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(minutes=30)}

    def test_an_hourly_one_fires_once_an_hour_in_utc(self) -> None:
        for start in (self.SPRING, self.AUTUMN):
            assert len(fires("@hourly", "Europe/Berlin", start, start + timedelta(days=1))) == 24

    def test_midnight_that_does_not_exist_is_made_up_for(self) -> None:
        assert in_zone("0 0 * * *", "Africa/Cairo", datetime(2026, 4, 23, 12, tzinfo=UTC), 1) == [
            "2026-04-24T01:00+03:00"
        ]


class TestWhatALineNames:
    @pytest.mark.parametrize(
        ("line", "meaning"),
        [
            ("@daily", "0 0 * * *"),
            ("@midnight", "0 0 * * *"),
            ("@weekly", "0 0 * * 0"),
            ("@monthly", "0 0 1 * *"),
            ("@yearly", "0 0 1 1 *"),
            ("0 9 * * mon-fri", "0 9 * * 1-5"),
            ("0 9 * * sat-sun", "0 9 * * 0,6"),
            ("0 9 * JAN,mar 7", "0 9 * 1,3 0"),
            ("0 22-2 * * *", "0 22,23,0,1,2 * * *"),
            # croniter takes these for every minute, and every day.
            ("5-5 * * * *", "5 * * * *"),
            ("0 0 1-1 * *", "0 0 1 * *"),
            ("0 0 * * mon-mon", "0 0 * * 1"),
        ],
    )
    def test_names_and_ranges(self, line: str, meaning: str) -> None:
        start = datetime(2026, 1, 1, 0, 30, tzinfo=UTC)
        end = start + timedelta(days=400)
        found = fires(line, "UTC", start, end)
        assert found
        assert found == fires(meaning, "UTC", start, end)

    def test_the_second_tuesday(self) -> None:
        assert in_zone("0 9 * * tue#2", "UTC", datetime(2026, 11, 1, tzinfo=UTC), 2) == [
            "2026-11-10T09:00+00:00",
            "2026-12-08T09:00+00:00",
        ]

    def test_the_29th_of_february_comes(self) -> None:
        assert in_zone("0 0 29 2 *", "UTC", datetime(2026, 1, 1, tzinfo=UTC), 1) == ["2028-02-29T00:00+00:00"]

    def test_h_spreads_by_the_name_and_is_the_same_each_time(self) -> None:
        start = datetime(2026, 1, 1, tzinfo=UTC)
        found = {name: fire_times("H H * * *", name=name).after(start) for name in map(str, range(30))}
        assert found == {name: fire_times("H H * * *", name=name).after(start) for name in found}
        assert len(set(found.values())) > 20


class TestRefused:
    @pytest.mark.parametrize(
        ("cron", "why"),
        [
            ("* * * * * *", "6 fields"),
            ("* * * *", "4 fields"),
            ("R R * * *", "R is random"),
            ("0 r * * *", "R is random"),
            ("0 0 31 2 *", "never comes"),
            ("@reboot", "none of"),
            ("*/90 * * * *", "the step 90"),
            ("*/0 * * * *", "the step 0"),
            ("0 0 15W * *", "W"),
            ("0 22-2/2 * * *", "goes down"),
            ("1,* * * * *", "write * alone"),
            ("61 * * * *", "can't be read"),
            ("0 25 * * *", "can't be read"),
            ("0 0 0 * *", "can't be read"),
            ("a b c d e", "can't be read"),
            ("0 9 * * mon;tue", "which no field has"),
            ("0 9\n* * *", "which no field has"),
            ("", "five fields"),
            ("1," * 50 + "1 * * * *", "characters"),
            ("0" * 10_000, "characters"),
        ],
    )
    def test_a_line_that_can_not_be_says_why(self, cron: str, why: str) -> None:
        with pytest.raises(InvalidSchedule, match="cron: ") as caught:
            fire_times(cron)
        assert why in str(caught.value)

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("timezone", "Mars/Olympus"),
            ("timezone", "../etc/passwd"),
            ("timezone", ""),
            ("misfire", "never"),
            ("misfire", ["once"]),
            ("overlap", "queue"),
            ("misfire_grace", -1),
            ("misfire_grace", float("nan")),
            ("jitter", "5"),
            ("jitter", True),
            ("max_catchup", 0),
            ("max_retries", -1),
            ("priority", "high"),
            ("enabled", "yes"),
            ("payload", [1]),
            ("metadata", "x"),
            ("name", " padded "),
            ("name", "x" * 201),
            ("name", "two\nlines"),
            ("start_at", "2026-01-01"),
        ],
    )
    def test_a_setting_that_can_not_be_is_named(self, setting: str, value: object) -> None:
        with pytest.raises(ConfigurationError, match=f"^{setting}: "):
            ScheduleConfig("@daily", "report.daily", **{"payload": {}, setting: value})  # type: ignore[arg-type]  # that is the point

    def test_an_end_before_the_beginning(self) -> None:
        with pytest.raises(InvalidSchedule, match=r"^end_at: must be not before start_at"):
            ScheduleConfig(
                "@daily",
                "report.daily",
                start_at=datetime(2026, 1, 2),  # noqa: DTZ001  # taken as UTC
                end_at=datetime(2026, 1, 1, tzinfo=UTC),
            )


class TestTheConfiguration:
    def test_it_is_made_as_the_port_has_it(self) -> None:
        by_place = ScheduleConfig("0 9 * * *", "report.daily", {"a": 1}, "reports", 5)
        by_name = ScheduleConfig(
            cron="0 9 * * *", job_type="report.daily", payload={"a": 1}, queue_name="reports", priority=5
        )
        assert by_place == by_name

    def test_its_name_is_made_of_what_it_does(self) -> None:
        assert ScheduleConfig("0  9 * * *", "report.daily").name == "report.daily 0 9 * * *"
        assert (
            ScheduleConfig("0 9 * * *", "report.daily", timezone="Asia/Tokyo").name
            == "report.daily 0 9 * * * Asia/Tokyo"
        )
