"""What one process owns to reach the outside: its store's threads, its leases, its publisher.

Made on first use and remade after a fork: a database client or a broker's connection must never be shared by two
processes, and no thread survives a fork.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar, cast

from celery import Celery

from portico_celery.adapters.celery.io_thread import IOThread
from portico_celery.adapters.celery.knock import knock_message
from portico_celery.adapters.celery.leases import Leases
from portico_celery.adapters.celery.publisher import KnockPublisher
from portico_celery.adapters.celery.settings import PorticoSettings
from portico_celery.exceptions import StillInUse
from portico_celery.ports.job import Job
from portico_celery.ports.job_store import Claim, ClaimedJob, Finish, JobStore, Knock, Lease

# Each look-up is a call of its own, so that where the store is slow they would queue up without end.
_READ_PATIENCE_SECONDS = 2.0


class Companion(Protocol):
    """What lives as long as a process's threads, and by them."""

    def close(self) -> None: ...


C = TypeVar("C", bound=Companion)


class ProcessIO:
    """The threads of one process. Nothing connects before it is used."""

    def __init__(self, app: Celery, store: JobStore, settings: PorticoSettings) -> None:
        self.settings = settings
        #: Creates, claims, finishes: what somebody waits for, and the renewing of leases.
        self.writes = IOThread(store, name="portico-io")
        #: Look-ups, which may be slow and must not hold up the others.
        self.reads = IOThread(store, name="portico-reads", patience=_READ_PATIENCE_SECONDS)
        self.leases = Leases(self.writes, lease_seconds=settings.lease_seconds)
        self.publisher = KnockPublisher(app)
        #: Whether a worker sweeps in this process.
        self.sweeps = False
        self._store = store
        self._companions: dict[Callable[[ProcessIO], Companion], Companion] = {}
        self._lock = threading.Lock()

    def companion(self, make: Callable[[ProcessIO], C]) -> C:
        """Return this process's own of what ``make`` makes, made now if there is none; it is closed with the rest."""
        with self._lock:
            if make not in self._companions:
                self._companions[make] = make(self)
            return cast("C", self._companions[make])

    # Always the same calls, by which the I/O thread sees what may travel together.

    def insert(self, jobs: Sequence[Job]) -> Future[list[tuple[Job, bool]]]:
        """Store new jobs, all or none."""
        return self.writes.call_many(self._insert, jobs)

    def _insert(self, store: JobStore, jobs: list[Job]) -> list[tuple[Job, bool]]:
        return store.insert(jobs, knock_seconds=self.settings.knock_seconds)

    def claim(self, claim: Claim) -> Future[list[ClaimedJob | None]]:
        """Take a job that may start now."""
        return self.writes.call_many(_claim, [claim])

    def finish(self, finish: Finish) -> Future[list[Job | None]]:
        """End an attempt."""
        lease = Lease(job_id=finish.job_id, attempt=finish.attempt)
        future = self.writes.call_many(_finish, [finish])
        # On the I/O thread, before its next renewal could take an attempt that has just ended for a lost one.
        future.add_done_callback(lambda done: None if _failed(done) else self.leases.release(lease))
        return future

    def knock(self, knock: Knock) -> None:
        """Have a worker told of a job, in the background."""
        self.publisher.publish(knock_message(knock, redact=self.settings.redact))

    def knock_if_lost(self, queue_name: str, knocks: Sequence[Knock], *, pending: int) -> None:
        """Tell a worker again of jobs of a queue, as far as their messages are no longer there to tell it."""
        messages = [knock_message(knock, redact=self.settings.redact) for knock in knocks]
        self.publisher.publish_missing(
            queue_name, messages, expected=pending, probe_seconds=self.settings.knock_seconds
        )

    def hold(self) -> None:
        """Leave the store alone until ``go_on``, and have nothing of it open that a forked child would inherit."""
        self.writes.hold()
        self.reads.hold()
        self._store.close()

    def go_on(self) -> None:
        """End ``hold``, in the same thread."""
        self.reads.go_on()
        self.writes.go_on()

    @property
    def use(self) -> str | None:
        """What would come to harm if this was closed; None where nothing would."""
        runs = self.leases.runs
        if runs:
            return f"{runs} of its jobs {'runs' if runs == 1 else 'run'} in this process"
        return "a worker runs in this process" if self.sweeps else None

    def close(self) -> None:
        """Flush what is under way, then release everything."""
        with self._lock:
            companions = list(self._companions.values())
        for companion in companions:
            companion.close()
        self.writes.close()
        self.reads.close()
        self.publisher.close()
        self._store.close()


def _failed(done: Future[Any]) -> bool:
    return done.cancelled() or done.exception() is not None


def _claim(store: JobStore, claims: list[Claim]) -> list[ClaimedJob | None]:
    return store.claim(claims)


def _finish(store: JobStore, finishes: list[Finish]) -> list[Job | None]:
    return store.finish(finishes)


class ProcessIOProvider:
    """Gives each process its own ProcessIO."""

    def __init__(self, make: Callable[[], ProcessIO], *, prepare: Callable[[], None]) -> None:
        self._make = make
        self._prepare = prepare
        self._lock = threading.Lock()
        self._current: ProcessIO | None = None
        _providers.add(self)

    def get(self) -> ProcessIO:
        """Return this process's, made now if there is none."""
        current = self._current
        if current is not None:
            return current
        # Not under the lock: preparing the app calls whoever waits for that, and they may come here.
        self._prepare()
        with self._lock:
            if self._current is None:
                self._current = self._make()
            return self._current

    def close(self, *, by_force: bool = False) -> None:
        """Close this process's; the next use makes another. Raises StillInUse, unless ``by_force``."""
        with self._lock:
            current = self._current
            use = None if current is None or by_force else current.use
            if use is not None:
                raise StillInUse(f"the job queue can't be closed, since {use}: stop that first")
            self._current = None
        if current is not None:
            current.close()

    @property
    def current(self) -> ProcessIO | None:
        """This process's, if it has been made."""
        return self._current

    def start_afresh_after_fork(self) -> None:
        """Forget the parent's, without closing what is not ours to close."""
        if self._current is not None:
            _of_parents.append(self._current)
        self._current = None
        self._lock = threading.Lock()


_providers: weakref.WeakSet[ProcessIOProvider] = weakref.WeakSet()
# Kept from the garbage collector, which would close a parent's connections from within its child.
_of_parents: list[ProcessIO] = []


# What the thread that forks is holding.
_held = threading.local()


def _hold_all() -> None:
    # A fork in the middle of a call would leave the child a library whose locks nobody will ever release: SQLite's
    # own, which make it wait for ever, and those that it believes to have on the file.
    _held.by_fork = [provider.current for provider in list(_providers) if provider.current is not None]
    for io in _held.by_fork:
        io.hold()


def _let_all_go_on() -> None:
    for io in _held.by_fork:
        io.go_on()


def _start_all_afresh() -> None:
    for provider in list(_providers):
        provider.start_afresh_after_fork()


def _close_all() -> None:
    for provider in list(_providers):
        provider.close(by_force=True)


os.register_at_fork(before=_hold_all, after_in_parent=_let_all_go_on, after_in_child=_start_all_afresh)
atexit.register(_close_all)
