"""A model of the whole protocol, with one job: the row is the truth, the message only a knock.

What the stores promise of their statements (claim, fenced finish, reap, settle) is written here once more, and each
guard can be left out, to show that it is needed. A kill, a pause, a lost or a doubled knock may come at any time and
any number of times; only the requeues are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from portico_celery.ports.job import JobStatus
from tests.faults.model_checker import Model, Step
from tests.faults.protocol_rules import broken_rule
from tests.faults.protocol_state import HANDLED, LOST, Hold, Row, State

MOST_MESSAGES = 2
MOST_REAPERS = 2
MOST_REQUEUES = 1

RUNNING = "running the job"
HEARING = "telling the handler of a lost worker, before the job runs"
NOTICING = "telling the handler of a dead letter"
SETTLING = "noting that it was told"

Steps = Iterator[Step[State]]


@dataclass(frozen=True, kw_only=True)
class ProtocolModel(Model[State]):
    """The protocol, whole or without one of its guards."""

    max_retries: int = 1
    workers: int = 2
    fenced: bool = True  # a finish is refused unless its attempt holds the job
    reaper_compares: bool = True  # a reaper looks again at what it has found, in the step in which it acts
    sweeps: bool = True
    reaps: bool = True

    def beginnings(self) -> Iterable[Step[State]]:
        """A job is created, or a plain Celery client's message is adopted, which its broker may deliver again."""
        adopted = Row(JobStatus.RUNNING, attempt=1, leased=True)
        return [
            Step("create", State(Row(JobStatus.PENDING))),
            Step("create, scheduled", State(Row(JobStatus.SCHEDULED, ready=False))),
            Step("adopt", State(adopted, unpublished=False, messages=1, workers=(Hold(1, 0, RUNNING),), starts=1)),
        ]

    def at_rest(self, state: State) -> bool:
        """Whether the job has ended, and nobody has still to be told of it."""
        return state.at_rest

    def broken_rule(self, before: State, step: Step[State]) -> str | None:
        """Return the rule that a step breaks, or None."""
        return broken_rule(before, step, self.max_retries)

    def steps(self, state: State) -> Steps:
        """Yield all that may happen next."""
        yield from self._knocks(state)
        yield from self._deliveries(state)
        for worker in set(state.workers):
            yield from self._work(state, worker)
        yield from self._time(state)
        if self.reaps:
            yield from self._reaping(state)
        yield from self._operators(state)

    def _knocks(self, state: State) -> Steps:
        knocked = state._replace(messages=min(state.messages + 1, MOST_MESSAGES))
        if state.unpublished:
            yield Step("the producer knocks", knocked._replace(unpublished=False))
            yield Step("the producer dies before it knocks", state._replace(unpublished=False), optional=True)
        if self.sweeps and (state.row.may_start or state.row.owes_notice):
            yield Step("the sweep knocks", knocked._replace(row=state.row.swept()))
        if state.messages:
            yield Step("a knock is lost", state._replace(messages=state.messages - 1), optional=True)
            yield Step("a knock is doubled", knocked, optional=True)

    def _deliveries(self, state: State) -> Steps:
        if not state.messages or len(state.workers) == self.workers:
            return
        row, delivered = state.row, state._replace(messages=state.messages - 1)
        if row.may_start:
            claimed = row.claimed()
            worker = Hold(claimed.attempt, row.retry_count, HEARING if row.worker_lost else RUNNING)
            after = delivered.with_worker(worker)._replace(row=claimed, starts=state.starts + 1)
            yield Step(f"a worker claims the job as attempt {claimed.attempt}", after)
        elif row.owes_notice:
            worker = Hold(row.attempt, row.retry_count, NOTICING)
            yield Step("a worker claims the notice", delivered.with_worker(worker))
        else:
            yield Step("a worker drops a knock", delivered)

    def _work(self, state: State, worker: Hold) -> Steps:
        others = state.without_worker(worker)
        yield Step(f"the worker of attempt {worker.attempt} is killed", others, optional=True)
        if worker.doing == RUNNING:
            yield from self._finishing(others, worker)
        elif worker.doing == HEARING:
            yield _told(others, worker._replace(doing=RUNNING), of=worker.attempt - 1)
        elif worker.doing == NOTICING:
            yield _told(others, worker._replace(doing=SETTLING), of=worker.attempt)
        elif worker.doing == SETTLING:
            settles = state.row.owes_notice and state.row.attempt == worker.attempt
            row = state.row._replace(worker_lost=False) if settles else state.row
            yield Step("the notice is settled", others._replace(row=row), writer=worker.attempt)

    def _finishing(self, others: State, worker: Hold) -> Steps:
        if self.fenced and not worker.holds(others.row):
            yield Step(f"the finish of attempt {worker.attempt} is refused", others)
            return
        for outcome in HANDLED:
            row = others.row.ended(outcome, worker.retry_count, self.max_retries)
            yield Step(f"attempt {worker.attempt}: {outcome}", others.with_end(row), writer=worker.attempt)

    def _time(self, state: State) -> Steps:
        row = state.row
        if not row.ready:
            yield Step("its time comes", state._replace(row=row._replace(ready=True)))
        if row.status is not JobStatus.RUNNING:
            return
        alive = any(worker.holds(row) for worker in state.workers)
        if row.leased:
            name = "the lease runs out, its worker paused" if alive else "the lease runs out"
            yield Step(name, state._replace(row=row._replace(leased=False)), optional=alive)
        elif alive:
            yield Step("a worker renews its lease", state._replace(row=row._replace(leased=True)), writer=row.attempt)

    def _reaping(self, state: State) -> Steps:
        row = state.row
        over = row.status is JobStatus.RUNNING and not row.leased
        if over and len(state.reapers) < MOST_REAPERS:
            yield Step("a reaper finds the lease over", state.with_reaper(Hold(row.attempt, row.retry_count)))
        for reaper in set(state.reapers):
            others = state.without_reaper(reaper)
            if self.reaper_compares and not (over and reaper.holds(row)):
                yield Step("a reaper is refused", others)
            else:
                reaped = row.ended(LOST, reaper.retry_count, self.max_retries)
                after = others.with_end(reaped)._replace(untold=reaper.attempt)
                yield Step(f"a reaper ends attempt {reaper.attempt}", after, writer=reaper.attempt)

    def _operators(self, state: State) -> Steps:
        cancelled, requeued = state.row.cancelled(), state.row.requeued()
        if cancelled is not None:
            yield Step("cancel", state.with_end(cancelled)._replace(cancelled=True, untold=0), optional=True)
        if requeued is not None and state.requeues < MOST_REQUEUES:
            yield Step("requeue", state.with_new_life(requeued), optional=True)


def _told(others: State, worker: Hold, *, of: int) -> Step[State]:
    untold = 0 if others.untold <= of else others.untold
    return Step(f"the handler hears of a lost attempt {of}", others.with_worker(worker)._replace(untold=untold))
