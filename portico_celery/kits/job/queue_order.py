"""Taking jobs from several queues, from the earlier ones first."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from portico_celery.interruption import Interruption
from portico_celery.lifecycle import RetryPolicy, describe
from portico_celery.ports.job_claims import JobClaims, KnownTypes
from portico_celery.ports.job_store import ClaimedJob
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

_AFTER_AN_ERROR = RetryPolicy(base_delay=0.5, max_delay=30.0, jitter=0.0)
_DEQUEUE_SECONDS = 30.0
# For queues that answer at once that they have nothing, however long they may wait.
_IDLE_SECONDS = 0.1


@dataclass(eq=False)
class TakenJob:
    """A job in a worker's hands, with all that its run needs."""

    claimed: ClaimedJob
    interruption: Interruption = field(default_factory=Interruption)
    hold: ExitStack = field(default_factory=ExitStack)
    #: Its handler has ended, and what came of it is being recorded.
    decided: bool = False
    #: Nothing that its run still reports is recorded.
    given_back: bool = False


@dataclass(eq=False)
class _Queue:
    name: str
    errors: int = 0
    closed_until: float = 0.0

    @property
    def pause(self) -> float:
        return max(0.0, self.closed_until - time.monotonic())


class QueuesInOrder:
    """Hands out jobs to whoever calls ``take``. An error of one queue holds up nobody who waits for another."""

    def __init__(self, claims: JobClaims, names: Sequence[str], known: KnownTypes) -> None:
        self._claims = claims
        self._known = known
        self._queues = [_Queue(name) for name in names]
        self._turn = asyncio.Lock()
        #: Taken while another was taken, too: the next to be handed out.
        self.in_hand: deque[TakenJob] = deque()

    async def take(self) -> TakenJob:
        """Wait for a job. Who is cancelled while waiting loses none."""
        while True:
            await self._look()
            if not self.in_hand:
                # One waits for all: a queue has one caller that waits, however many slots are free.
                async with self._turn:
                    await self._look()
                    if not self.in_hand:
                        await self._wait()
            if self.in_hand:
                return self.in_hand.popleft()

    async def _look(self) -> None:
        for queue in self._queues:
            if self.in_hand:
                return
            if not queue.pause:
                self._keep(await self._dequeue(queue, 0.0))

    async def _wait(self) -> None:
        watches = [asyncio.create_task(self._watch(queue)) for queue in self._queues]
        try:
            await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for watch in watches:
                watch.cancel()
            await self._keep_all(watches)

    async def _keep_all(self, watches: Sequence[asyncio.Task[TakenJob]]) -> None:
        # Several may have got a job at the same moment, or before they heard that they were cancelled: to the end,
        # even if this very task is cancelled meanwhile.
        cancelled: asyncio.CancelledError | None = None
        while pending := [watch for watch in watches if not watch.done()]:
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as error:
                cancelled = error
        for watch in watches:
            self._keep(None if watch.cancelled() else watch.result())
        if cancelled is not None:
            raise cancelled

    def _keep(self, taken: TakenJob | None) -> None:
        if taken is not None:
            self.in_hand.append(taken)

    async def _watch(self, queue: _Queue) -> TakenJob:
        while True:
            await asyncio.sleep(queue.pause)
            began = time.monotonic()
            taken = await self._dequeue(queue, _DEQUEUE_SECONDS)
            if taken is not None:
                return taken
            if time.monotonic() - began < _IDLE_SECONDS:
                await asyncio.sleep(_IDLE_SECONDS)

    async def _dequeue(self, queue: _Queue, timeout: float) -> TakenJob | None:
        try:
            claimed = await self._claims.take(queue.name, timeout, known=self._known)
            taken = None if claimed is None else self._hold(claimed)
        except Exception as error:  # noqa: BLE001  # whatever an adapter raises: the others go on, and this one later
            pause = _AFTER_AN_ERROR.delay(queue.errors, 0.0)
            queue.errors += 1
            queue.closed_until = time.monotonic() + pause
            logger.error("dequeue_failed", queue_name=queue.name, error=describe(error), tried_again_in=pause)
            return None
        queue.errors = 0
        return taken

    def _hold(self, claimed: ClaimedJob) -> TakenJob:
        taken = TakenJob(claimed)
        loop = asyncio.get_running_loop()
        taken.hold.enter_context(
            self._claims.held(claimed, taken.interruption.request, can_go_on=lambda: not loop.is_closed())
        )
        return taken
