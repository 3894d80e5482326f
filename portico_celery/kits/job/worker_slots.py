"""The slots of a running worker: each takes a job, runs it, and takes the next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence

from portico_celery.exceptions import StoreUnavailable
from portico_celery.interruption import CLEANUP_SECONDS
from portico_celery.kits.job.job_runner import JobRunner, Record
from portico_celery.kits.job.queue_order import QueuesInOrder, TakenJob
from portico_celery.lifecycle import Released, RetryPolicy, decide, describe
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_claims import JobClaims, KnownTypes
from portico_celery.ports.job_store import Transition
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

# For how long the end of a job is tried to be recorded, where the queue refuses it for another reason than that its
# store is away.
_RECORD_SECONDS = 30.0
_AFTER_AN_ERROR = RetryPolicy(base_delay=0.2, max_delay=5.0, jitter=0.0)


class WorkerSlots:
    """Runs jobs from now on until it is stopped. Belongs to the event loop that it was made in."""

    def __init__(
        self, claims: JobClaims, runner: JobRunner, queues: Sequence[str], concurrency: int, known: KnownTypes
    ) -> None:
        self._claims = claims
        self._runner = runner
        self._queues = QueuesInOrder(claims, queues, known)
        self._taking: set[asyncio.Task[TakenJob]] = set()
        self._in_flight: dict[TakenJob, asyncio.Task[None]] = {}
        self._loop = asyncio.get_running_loop()
        self.stopping = False
        self._slots = [asyncio.create_task(self._run_one_by_one(), name="portico-slot") for _ in range(concurrency)]

    async def _run_one_by_one(self) -> None:
        while (taken := await self._next()) is not None:
            run = self._in_flight[taken] = asyncio.create_task(self._run(taken))
            await asyncio.wait([run])

    async def _next(self) -> TakenJob | None:
        # Also one that was taken just before it was told to stop.
        if self._queues.in_hand:
            return self._queues.in_hand.popleft()
        if self.stopping:
            return None
        taking = asyncio.create_task(self._queues.take())
        self._taking.add(taking)
        try:
            await asyncio.wait([taking])
        finally:
            # Not awaited itself, which could not tell who was cancelled.
            taking.cancel()
            self._taking.discard(taking)
        return await self._next() if taking.cancelled() else taking.result()

    async def _run(self, taken: TakenJob) -> None:
        try:
            with taken.hold:
                await self._lead_to_its_end(taken)
        except Exception as error:  # what goes wrong with one job must not end the slot
            logger.error("run_failed", job_id=str(taken.claimed.job.id), error=describe(error), exc_info=error)
        finally:
            self._in_flight.pop(taken, None)

    async def _lead_to_its_end(self, taken: TakenJob) -> None:
        claimed = taken.claimed
        if claimed.job.status is JobStatus.DEAD_LETTER:
            await self._runner.tell_of_loss(claimed)
            await self._claims.settle_loss(claimed)
        else:
            await self._runner.run(claimed, self._recorder(taken), taken.interruption)

    def _recorder(self, taken: TakenJob) -> Record:
        async def record(transition: Transition) -> bool:
            taken.decided = True
            deadline, errors = time.monotonic() + _RECORD_SECONDS, 0
            while not taken.given_back:
                try:
                    return await self._claims.finish(taken.claimed, transition)
                except StoreUnavailable as error:
                    # The work is done. When the store is back it says whether the attempt still holds the job.
                    logger.warning("end_waits_for_store", job_id=str(taken.claimed.job.id), error=str(error))
                except Exception as error:  # whatever an adapter raises: the work is done, it is worth trying again
                    logger.error("record_failed", job_id=str(taken.claimed.job.id), error=describe(error))
                    if time.monotonic() > deadline:
                        raise
                await asyncio.sleep(_AFTER_AN_ERROR.delay(errors, 0.0))
                errors += 1
            return False

        return record

    @property
    def gone(self) -> bool:
        """Whether its event loop ended without stopping it; what it ran is for the leases."""
        return self._loop.is_closed()

    async def stop(self, grace: float | None) -> None:
        """Take no more, let what is in flight end within ``grace`` seconds, and give back the rest."""
        self.stopping = True
        for taking in self._taking:
            taking.cancel()
        await _ended(self._slots, grace)
        await self._give_back()
        await _ended([run for taken, run in self._in_flight.items() if not taken.given_back], None)
        for slot in self._slots:
            slot.cancel()

    async def _give_back(self) -> None:
        while self._queues.in_hand:
            taken = self._queues.in_hand.popleft()
            if self._claims.can_give_back(taken.claimed, started=False):
                taken.interruption.request()
            self._in_flight[taken] = asyncio.create_task(self._run(taken))
        stopped = [taken for taken in self._in_flight if self._claims.can_give_back(taken.claimed, started=True)]
        for taken in stopped:
            taken.interruption.request()
        await _ended([self._in_flight[taken] for taken in stopped], CLEANUP_SECONDS)
        for taken in stopped:
            if taken in self._in_flight and not taken.decided:
                await self._give_back_under_its_hands(taken)

    async def _give_back_under_its_hands(self, taken: TakenJob) -> None:
        claimed, taken.given_back = taken.claimed, True
        logger.warning(
            "job_given_back_while_it_runs",
            job_id=str(claimed.job.id),
            job_type=claimed.job.job_type,
            attempt=claimed.attempt,
            hint="its handler does not stop when it is cancelled: it may run here and elsewhere at once",
        )
        try:
            released = Released(worker=claimed.worker, attempt=claimed.attempt)
            await self._claims.finish(claimed, decide(claimed.job, released))
        except Exception as error:  # noqa: BLE001  # then its lease gives it back
            logger.error("give_back_failed", job_id=str(claimed.job.id), error=describe(error))


async def _ended(tasks: Collection[asyncio.Task[None]], seconds: float | None) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)
