"""Whether a trigger runs, what it has in hand and what it has done. Views on many threads share it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from portico_celery.ports.job_trigger import TriggerHealth


class Activity:
    """Bound to no event loop and no process: a trigger that was started before a fork runs after it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = False
        self._waits_end = False
        self._in_hand = 0
        self._last_job_created: datetime | None = None
        self._jobs_created = 0
        self._errors = 0
        self._ignored = 0

    @property
    def running(self) -> bool:
        """Whether new work is let in."""
        with self._changed:
            return self._running

    @property
    def may_wait(self) -> bool:
        """Whether a request may wait for a job to end."""
        return self._running and not self._waits_end

    @property
    def idle(self) -> bool:
        """Whether nothing that was let in is still going on."""
        with self._changed:
            return self._in_hand == 0

    def set_running(self, running: bool) -> bool:
        """Start or stop; True only if this call changed anything."""
        with self._changed:
            changed = self._running is not running
            self._running = running
            self._waits_end = False
            return changed

    def end_waits(self) -> None:
        """Let no request wait any more. Safe in a signal handler, since it takes no lock."""
        self._waits_end = True

    @contextmanager
    def admission(self) -> Iterator[bool]:
        """Let a piece of work in, or yield False: in one step, so that nothing slips in behind a stop."""
        with self._changed:
            admitted = self._running
            self._in_hand += admitted
        try:
            yield admitted
        finally:
            with self._changed:
                self._in_hand -= admitted
                self._changed.notify_all()

    def wait_until_idle(self) -> None:
        """Block until all that was let in has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._in_hand == 0)

    def job_created(self, number: int = 1) -> None:
        """Count jobs."""
        with self._changed:
            self._jobs_created += number
            self._last_job_created = datetime.now(UTC)

    def error(self) -> None:
        """Count a job that should have been created and was not."""
        with self._changed:
            self._errors += 1

    def event_ignored(self) -> None:
        """Count an event that no job stands for."""
        with self._changed:
            self._ignored += 1

    def health(self) -> TriggerHealth:
        """Return the counters, all of one moment."""
        with self._changed:
            return TriggerHealth(
                is_running=self._running,
                last_job_created=self._last_job_created,
                jobs_created_count=self._jobs_created,
                errors_count=self._errors,
                ignored_count=self._ignored,
            )
