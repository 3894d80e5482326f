"""A caller that waits for a job, in whatever event loop and thread."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, InvalidStateError

from portico_celery.exceptions import PorticoError, StoreError
from portico_celery.ports.job_claims import KnownTypes
from portico_celery.ports.job_store import ClaimedJob

# Who gives no time still has a broker and a store to ask, which hold it up no longer than this (seconds).
_LOOK_SECONDS = 1.0
# For a claim that is under way when the time is over: mostly its answer is a moment away.
_CLAIM_SECONDS = 0.05


class PullCall:
    """One call of ``dequeue``. Made in the caller's event loop; what is said to it may come from any thread."""

    def __init__(self, queue_name: str, timeout: float, known: KnownTypes | None = None) -> None:
        self.queue_name = queue_name
        #: What it can run; None takes whatever comes.
        self.known = known
        #: It does not wait: the first look decides.
        self.looks_once = timeout <= 0
        #: A message was taken for it, and its job is being claimed. The pull thread's alone.
        self.has_message = False
        #: Why its message's job could not be claimed so far.
        self.fault: StoreError | None = None
        self._seconds = _LOOK_SECONDS if self.looks_once else timeout
        self._answer: Future[ClaimedJob | None] = Future()
        self._loop = asyncio.get_running_loop()

    @property
    def waits(self) -> bool:
        """Whether it has neither an answer nor given up."""
        return not self._answer.done()

    def knows(self, job_type: str) -> bool:
        """Whether it takes jobs of the type."""
        return self.known is None or self.known.includes(job_type)

    def handles(self, job_type: str) -> bool:
        """Whether it has a handler for jobs of the type."""
        return self.known is not None and self.known.includes(job_type)

    def answer(self, claimed: ClaimedJob | None) -> bool:
        """Give it a job, or None where it only looked. False where nobody waits for it any more."""
        if self._loop.is_closed():
            return False
        try:
            self._answer.set_result(claimed)
        except InvalidStateError:
            return False
        return True

    def refuse(self, error: PorticoError) -> None:
        """Tell it that what it asks for can't be."""
        if self.waits:
            self._answer.set_exception(error)

    async def wait(self) -> None:
        """Return when it has an answer, or its time is over."""
        answered = asyncio.wrap_future(self._answer)
        # Taken from the original: whatever is in this one need not be retrieved.
        answered.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait([answered], timeout=self._seconds)
        if self.has_message and self.waits:
            await asyncio.wait([answered], timeout=_CLAIM_SECONDS)

    def end(self) -> ClaimedJob | None:
        """Wait no more: return what there is. Raises what it was refused with, or what kept it from a job."""
        if not self._answer.cancel():
            return self._answer.result()
        if self.fault is not None:
            raise self.fault
        return None

    def abandon(self) -> ClaimedJob | None:
        """Wait no more, and want nothing: return a job that has come all the same."""
        if self._answer.cancel() or self._answer.exception() is not None:
            return None
        return self._answer.result()
