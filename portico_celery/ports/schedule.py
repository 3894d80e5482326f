"""What a schedule is: when jobs of which kind are to be made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from portico_celery.exceptions import InvalidSchedule

#: What becomes of fire times that nobody was there for: the newest alone, none, or all of them.
Misfire = Literal["once", "skip", "all"]
#: Whether a job is made while the schedule's last one is open.
Overlap = Literal["allow", "skip"]

_MAX_CRON_CHARS = 100
_MAX_NAME_CHARS = 200
_MAX_CATCHUP_LIMIT = 10_000
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
TIMES = "must be a time from 1970 to 9999"
_YEAR_SECONDS = 366 * 24 * 3600.0
_CRON_CHARS = re.compile(r"[0-9A-Za-z*/,\-#()? ]+")
# As a word of its own: MAR, FRI and THU have the letter too.
_RANDOM = re.compile(r"(?<![A-Za-z])[Rr](?![A-Za-z])")


@dataclass(frozen=True)
class ScheduleConfig:
    """A schedule: at each time that the cron line names, in its zone, one job is made.

    ``name`` is the schedule's identity; where none is given it is made of the job type, the cron line and the zone.
    ``misfire_grace`` and ``jitter`` are in seconds: a fire time that is late by no more than the grace is on time,
    and each job starts up to the jitter later, always by the same amount. Naive datetimes are taken as UTC.

    Raises InvalidSchedule (a ConfigurationError), which says what to change.
    """

    cron: str
    job_type: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    queue_name: str = "default"
    priority: int = 0
    _: KW_ONLY
    name: str = ""
    timezone: str = "UTC"
    enabled: bool = True
    misfire: Misfire = "once"
    misfire_grace: float = 30.0
    #: At most so many of the newest are made up for by ``misfire="all"``.
    max_catchup: int = 100
    overlap: Overlap = "allow"
    jitter: float = 0.0
    #: The first and the last moment at which it may fire. One that is new, and began in the past, catches up.
    start_at: datetime | None = None
    end_at: datetime | None = None
    max_retries: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_cron_shape(self.cron)
        for name in ("job_type", "queue_name", "timezone"):
            _check(isinstance(getattr(self, name), str) and getattr(self, name), name, "text", getattr(self, name))
        _check_zone(self.timezone)
        for name, kind in (("misfire", Misfire), ("overlap", Overlap)):
            value = getattr(self, name)
            _check(isinstance(value, str) and value in get_args(kind), name, _one_of(get_args(kind)), value)
        self._check_numbers()
        for name in ("payload", "metadata"):
            _check(isinstance(getattr(self, name), Mapping), name, "a dict", getattr(self, name))
        self._check_window()
        if self.name == "":
            object.__setattr__(self, "name", _derived_name(self))
        else:
            _check_name(self.name)

    def _check_numbers(self) -> None:
        _check(isinstance(self.enabled, bool), "enabled", "True or False", self.enabled)
        _check(_is_integer(self.priority), "priority", "an integer", self.priority)
        for name in ("misfire_grace", "jitter"):
            value = getattr(self, name)
            _check(_is_seconds(value), name, "a number of seconds from 0 to a year", value)
        _check(
            _is_integer(self.max_catchup) and 1 <= self.max_catchup <= _MAX_CATCHUP_LIMIT,
            "max_catchup",
            f"an integer from 1 to {_MAX_CATCHUP_LIMIT:,}",
            self.max_catchup,
        )
        retries = self.max_retries
        _check(
            retries is None or (_is_integer(retries) and retries >= 0), "max_retries", "an integer from 0 on", retries
        )

    def _check_window(self) -> None:
        for name in ("start_at", "end_at"):
            moment = getattr(self, name)
            if moment is None:
                continue
            _check(isinstance(moment, datetime), name, "a datetime", moment)
            object.__setattr__(self, name, _utc(name, moment))
        if self.start_at is not None and self.end_at is not None:
            _check(self.start_at <= self.end_at, "end_at", f"not before start_at ({self.start_at})", self.end_at)


def _check(holds: object, name: str, wanted: str, value: object) -> None:
    if not holds:
        raise InvalidSchedule(name, f"must be {wanted}, not {value!r:.80}")


def _utc(name: str, moment: datetime) -> datetime:
    aware = in_utc(moment)
    if aware is None:
        raise InvalidSchedule(name, f"{TIMES}, not {moment}")
    return aware


def in_utc(moment: datetime) -> datetime | None:
    """Return a moment in UTC, as which a naive one is taken; None for one that schedules know nothing of: see TIMES."""
    try:
        aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:  # the end of the calendar, or its beginning
        return None
    return None if aware < _EARLIEST else aware


def _one_of(words: tuple[str, ...]) -> str:
    return " or ".join(repr(word) for word in words)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _YEAR_SECONDS


def _check_cron_shape(cron: object) -> None:
    wanted = "five fields (minute hour day month weekday) or a name such as @daily"
    if not isinstance(cron, str) or not cron.strip():
        raise InvalidSchedule("cron", f"must be {wanted}, not {cron!r:.80}")
    if len(cron) > _MAX_CRON_CHARS:
        raise InvalidSchedule("cron", f"has {len(cron):,} characters, and the limit is {_MAX_CRON_CHARS}")
    if cron.startswith("@"):
        return
    if not _CRON_CHARS.fullmatch(cron):
        strange = sorted({character for character in cron if not _CRON_CHARS.fullmatch(character)})
        raise InvalidSchedule("cron", f"{cron!r} has {strange}, which no field has")
    count = len(cron.split())
    if count != 5:
        hint = ": seconds and years are not supported" if count in (6, 7) else ""
        raise InvalidSchedule("cron", f"{cron!r} has {count} fields; it must have {wanted}{hint}")
    if _RANDOM.search(cron):
        raise InvalidSchedule(
            "cron", f"{cron!r}: R is random, and each process would draw another time; H spreads by the name"
        )


def _check_zone(key: str) -> None:
    try:
        ZoneInfo(key)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: the name of a directory
        raise InvalidSchedule(
            "timezone", f"{key!r:.80} is no time zone that is known here; use a name such as Europe/Berlin"
        ) from error


def _check_name(name: object) -> None:
    _check(
        isinstance(name, str) and name.isprintable() and len(name) <= _MAX_NAME_CHARS and name.strip() == name,
        "name",
        f"printable text of at most {_MAX_NAME_CHARS} characters, with no space around it",
        name,
    )


def _derived_name(config: ScheduleConfig) -> str:
    zone = "" if config.timezone == "UTC" else f" {config.timezone}"
    return f"{config.job_type} {' '.join(config.cron.split())}{zone}"
