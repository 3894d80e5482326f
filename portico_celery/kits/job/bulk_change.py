"""Changing many jobs: in small steps, at a pace, counted."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from portico_celery.event_loop import pause, to_its_end
from portico_celery.exceptions import ValidationError
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_reader import DEFAULT_PAGE_SIZE, JobFilter, JobPage
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

MOST_AT_ONCE = 200
# A pace is kept by so many steps a second, where it is faster than that.
_STEPS_PER_SECOND = 10
_MOMENT = timedelta(microseconds=1)

Step = Callable[[JobFilter], Awaitable[JobPage]]
"""Changes at most the filter's ``limit`` of the jobs that it means, and says which, and where the next step begins."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How many jobs to change: at most ``limit`` in all and ``per_second`` a second. None is without a bound."""

    limit: int | None = None
    per_second: float | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and (type(self.limit) is not int or self.limit < 1):
            raise ValidationError(f"limit must be a whole number from 1, or None for all, not {self.limit!r:.60}")
        if self.per_second is not None and not _is_rate(self.per_second):
            raise ValidationError(
                f"per_second must be a number above 0, or None to go on without pauses, not {self.per_second!r:.60}"
            )

    def step_size(self, done: int) -> int:
        """Return how many jobs the next step may change; 0 where that is all."""
        left = MOST_AT_ONCE if self.limit is None else self.limit - done
        paced = MOST_AT_ONCE if self.per_second is None else max(1, int(self.per_second / _STEPS_PER_SECOND))
        return min(MOST_AT_ONCE, left, paced)

    def pause_after(self, changed: int, seconds: float) -> float:
        """Return the pause in seconds after a step that changed so many jobs and took ``seconds``."""
        return 0.0 if self.per_second is None else max(0.0, changed / self.per_second - seconds)


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0 and math.isfinite(value)


def meant(job_filter: JobFilter, now: datetime) -> JobFilter:
    """Return the filter of what a call that begins now changes: what has ended by now, and DEAD_LETTER by default.

    So a job that ends anew while the call goes on is left to the next call. Raises ValidationError where the filter has
    a cursor or a limit, which belong to a page.
    """
    if job_filter.cursor is not None or job_filter.limit != DEFAULT_PAGE_SIZE:
        raise ValidationError(
            "the filter's cursor and limit are for pages of a list: pass limit to this method to change fewer jobs"
        )
    status = job_filter.status
    if status is None and job_filter.job_ids is None:
        status = JobStatus.DEAD_LETTER
    until = now + _MOMENT
    since = job_filter.ended_since
    if since is not None and since > until:
        until = since  # nothing has ended then
    return replace(job_filter, status=status, ended_until=min(until, job_filter.ended_until or until))


@dataclass(kw_only=True)
class BulkChange:
    """A change of all jobs that a filter means. ``past`` says what becomes of them, for the log: "requeued"."""

    step: Step
    past: str
    job_filter: JobFilter
    pace: Pace
    done: int = field(default=0, init=False)
    _ended: bool = field(default=False, init=False)

    async def run(self) -> int:
        """Change them, and return how many. What ends it early has a note of that; it is never within a step."""
        try:
            while not self._ended:
                began, before = time.monotonic(), self.done
                await to_its_end(self._take_step())
                if not self._ended:
                    await pause(self.pace.pause_after(self.done - before, time.monotonic() - began))
        except BaseException as error:
            error.add_note(f"{self.done:,} jobs had been {self.past} by then")
            logger.warning("bulk_change_ended_early", **{self.past: self.done}, reason=repr(error))
            raise
        logger.info("bulk_change_ended", **{self.past: self.done})
        return self.done

    async def _take_step(self) -> None:
        page = await self.step(replace(self.job_filter, limit=self.pace.step_size(self.done)))
        self.done += len(page.jobs)
        self._ended = page.next_cursor is None or self.pace.step_size(self.done) == 0
        self.job_filter = replace(self.job_filter, cursor=page.next_cursor)
