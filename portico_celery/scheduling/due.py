"""What is due, and what becomes of fire times that nobody was there for."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from portico_celery.ports.schedule import ScheduleConfig
from portico_celery.scheduling.schedule import Schedule

# So many fire times are given up at once for each job that may be made: counting them takes its time, too.
_GIVEN_UP_FOR_EACH = 100


@dataclass(frozen=True, kw_only=True)
class Due:
    """The next fire times to make jobs for, oldest first, and how many before them are given up, the last of them when.

    Where ``owed_until`` is not None, all further fire times up to it are to have their job, however late it is by then.
    """

    fires: tuple[datetime, ...] = ()
    missed: int = 0
    missed_until: datetime | None = None
    owed_until: datetime | None = None

    @property
    def settled_until(self) -> datetime | None:
        """The newest fire time that is dealt with, once the jobs are made; None where there is none."""
        return self.fires[-1] if self.fires else self.missed_until


def due(
    schedule: Schedule,
    settled_until: datetime,
    now: datetime,
    *,
    paused_at: datetime | None = None,
    owed_until: datetime | None = None,
    most: int = 100,
) -> Due:
    """Decide, from what is settled and the time, by the schedule's misfire policy: at most ``most`` fire times at once.

    A fire time is on time while it is late by no more than misfire_grace. Those that are on time all count. Of the
    others so many of the newest are made up for that, with those on time, the policy's number is reached. What comes
    after ``paused_at`` is not due.

    Where that is more than ``most``, it is only decided: by ``owed_until``, which goes back in with the next call, so
    that one outage is decided upon once. Where it takes long to count what is given up, only that is begun with.
    """
    if paused_at is not None and paused_at > now:
        return Due()  # it was paused while the clock was ahead: since when, nobody can tell
    until = now if paused_at is None else min(now, paused_at)
    # One from the future was decided upon while the clock was ahead.
    if owed_until is not None and owed_until <= now:
        owed = _owed(schedule, settled_until, owed_until, until, most)
        if owed.settled_until is not None:
            return owed
    return _decide(schedule, settled_until, now, until, most)


def _owed(schedule: Schedule, settled_until: datetime, owed_until: datetime, until: datetime, most: int) -> Due:
    """Return the next of what was decided upon before."""
    end = min(owed_until, until)
    if schedule.config.misfire != "all":
        # The policy may be another one by now. As of that moment, it decides the same again where it is not.
        decided = _decide(schedule, settled_until, owed_until, end, most)
        if decided.missed:
            done = decided.owed_until is None and decided.missed < most * _GIVEN_UP_FOR_EACH
            return replace(decided, owed_until=None if done else owed_until)
    fires = tuple(islice(schedule.between(settled_until, end), most + 1))
    return Due(fires=fires[:most], owed_until=owed_until if len(fires) > most else None)


def _decide(schedule: Schedule, settled_until: datetime, now: datetime, until: datetime, most: int) -> Due:
    on_time_from = now - timedelta(seconds=schedule.config.misfire_grace)
    limit = _made_up_for(schedule.config)
    late: deque[datetime] = deque()
    on_time: list[datetime] = []
    missed, missed_until = 0, None
    for fire in schedule.between(settled_until, until):
        (on_time if fire >= on_time_from else late).append(fire)
        if late and len(late) + len(on_time) > limit:
            # There are enough newer ones, and there will be no fewer.
            missed, missed_until = missed + 1, late.popleft()
            if missed == most * _GIVEN_UP_FOR_EACH:
                return Due(missed=missed, missed_until=missed_until)
        if len(on_time) > most and not late:
            break
    fires = (*late, *on_time)
    if len(fires) > most:
        return Due(missed=missed, missed_until=missed_until, owed_until=until)
    return Due(fires=fires, missed=missed, missed_until=missed_until)


def _made_up_for(config: ScheduleConfig) -> int:
    return {"skip": 0, "once": 1, "all": config.max_catchup}[config.misfire]
