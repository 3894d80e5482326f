"""``control.revoke`` and Flower's Revoke: they cancel the job's row, whichever worker would have come to run it.

Celery's worker only remembers what was revoked, for a while and for itself. A row that was cancelled is so for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

from celery import bootsteps
from celery.utils.functional import maybe_list
from celery.worker import state as worker_state

from portico_celery.adapters.celery.cancelling import cancel
from portico_celery.adapters.celery.job_task import JobTask
from portico_celery.adapters.celery.knock import adopted_job_id
from portico_celery.adapters.celery.process_io import ProcessIOProvider
from portico_celery.ports.job_store import JobStore
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

# Whoever asks for this one wants the process gone, whatever its handler does.
_KILL = frozenset({"KILL", "SIGKILL", "9"})

Command = Callable[..., Any]


def revoke_step(io: ProcessIOProvider) -> type[bootsteps.StartStopStep]:
    """Make the boot step that has one app's workers cancel the jobs that they are told to revoke."""

    class RevokeStep(bootsteps.StartStopStep):
        """Puts our command before Celery's own, in this worker's mailbox alone."""

        requires = ("celery.worker.consumer:Control",)

        def create(self, c: Any) -> None:
            for step in c.steps:
                # Absent where the app has turned remote control off, or its broker knows no broadcast.
                node = getattr(getattr(step, "box", None), "node", None)
                if node is not None:
                    node.handlers = _with_revoke(node.handlers, Revocation(io, c))

    return RevokeStep


def _with_revoke(handlers: Mapping[str, Command], revocation: Revocation) -> dict[str, Command]:
    # Celery's own ``terminate`` calls its own ``revoke``, and would pass by ours.
    command = handlers["revoke"]
    ours = {"revoke": partial(revocation.revoke, command), "terminate": partial(revocation.terminate, command)}
    return {**handlers, **ours}


class Revocation:
    """Revokes for one worker's consumer."""

    def __init__(self, io: ProcessIOProvider, consumer: Any) -> None:
        self._provider = io
        self._consumer = consumer

    def revoke(
        self,
        command: Command,
        state: Any,
        task_id: Any,
        terminate: bool = False,  # the arguments of Celery's command
        signal: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Cancel the rows of whatever jobs these are, in the background; the rest is for Celery's own ``command``.

        Celery would store a result for a job that may go on, and terminate a running one by the end of its process.
        Ours is stopped at its next ``await``, as it is by ``cancel_job``, unless the signal is SIGKILL.
        """
        task_ids = {str(each) for each in maybe_list(task_id) or []}
        known = {each: worker_state.requests[each] for each in task_ids if each in worker_state.requests}
        ordinary = {each for each, request in known.items() if not isinstance(request.task, JobTask)}
        for each in task_ids - ordinary:
            # Until it is known to be a job: it may be an ordinary task that comes here next.
            worker_state.revoked.add(each)
            self._cancel(each, running=bool(terminate), otherwise=partial(command, state, {each}))
        if terminate and str(signal).upper() in _KILL:
            for each in known.keys() - ordinary:
                known[each].terminate(self._consumer.pool, signal=signal)
        answer = {"ok": f"tasks {task_ids} flagged as revoked"}
        return command(state, ordinary, terminate, signal, **kwargs) if ordinary else answer

    def terminate(self, command: Command, state: Any, signal: Any, task_id: Any, **kwargs: Any) -> Any:
        """Do as ``revoke`` does with ``terminate=True``, which is all that Celery's command of this name is for."""
        return self.revoke(command, state, task_id, terminate=True, signal=signal, **kwargs)

    def _cancel(self, task_id: str, *, running: bool, otherwise: Callable[[], Any]) -> None:
        """Cancel a job; ``otherwise`` is called, in the consumer's thread, where there is none of that id."""
        io, job_id = self._provider.get(), adopted_job_id(task_id)

        def is_job(store: JobStore) -> bool:
            if not cancel(io, store, job_id, running=running):
                # It has ended, or another worker was first; or it is no job, or none yet.
                return store.get(job_id) is not None
            logger.info("job_revoked", task_id=task_id, job_id=str(job_id))
            return True

        def on_answer(done: Future[bool]) -> None:
            if done.cancelled():
                return
            error = done.exception()
            if error is not None:
                logger.error("revoke_failed", task_id=task_id, error=str(error), hint="if it is a job, it goes on")
            elif done.result():
                worker_state.revoked.discard(task_id)
                return
            self._consumer.call_soon(otherwise)

        io.writes.call(is_job).add_done_callback(on_answer)
