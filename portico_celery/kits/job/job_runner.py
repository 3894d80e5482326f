"""Runs one job: the whole way from a claimed row to a decided end, as named steps."""

from __future__ import annotations

import asyncio
import json
import random
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from portico_celery.exceptions import ConfigurationError, JobFailed, JobTimedOut, UnknownJobType, WorkerLost
from portico_celery.interruption import Interrupted, Interruption
from portico_celery.kits.job.handler_registry import HandlerRegistry, JobType
from portico_celery.lifecycle import (
    Failed,
    Outcome,
    Released,
    RetryPolicy,
    Succeeded,
    as_it_failed,
    decide,
    describe,
    lost_part,
    outcome_of,
)
from portico_celery.ports.job import Job, JobResult, JobStatus
from portico_celery.ports.job_handler import JobHandler
from portico_celery.ports.job_store import ClaimedJob, Transition
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

T = TypeVar("T")
Record = Callable[[Transition], Awaitable[bool]]


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """How a run ended: the decision, the error behind it, and whether the store took it (False: a stale attempt)."""

    transition: Transition
    error: Exception | None
    recorded: bool


class JobRunner:
    """Runs claimed jobs with the registered handlers. Knows neither Celery nor a store."""

    def __init__(
        self,
        registry: HandlerRegistry,
        *,
        retry_policy: RetryPolicy,
        default_time_limit: float | None = None,
        on_failure_time_limit: float = 30.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._registry = registry
        self._retry_policy = retry_policy
        self._default_time_limit = default_time_limit
        self._on_failure_time_limit = on_failure_time_limit
        self._chance = chance

    def handles(self, job_type: str) -> bool:
        """Whether there is a handler for the type here."""
        try:
            return self._registry.get(job_type).handler is not None
        except UnknownJobType:
            return False

    async def run(self, claimed: ClaimedJob, record: Record, interruption: Interruption | None = None) -> RunReport:
        """Run the job and record what came of it. Nothing that a handler does escapes as an exception.

        A run that is interrupted gives its job back, if it still holds it.
        """
        if claimed.lost_error is not None:
            await self._tell_of_loss(claimed)
        outcome = await self._handle(claimed, interruption or Interruption())
        return await self.conclude(claimed, outcome, record)

    async def conclude(self, claimed: ClaimedJob, outcome: Outcome, record: Record) -> RunReport:
        """Decide where the job goes, tell its handler of a failure, and record the decision."""
        transition = self._decide(claimed.job, outcome)
        error = outcome.error if isinstance(outcome, Failed) else None
        if error is not None:
            await self._tell_of_failure(claimed.job, error)
        recorded = await record(transition)
        _log_end(claimed, transition, recorded)
        return RunReport(transition=transition, error=error, recorded=recorded)

    async def tell_of_loss(self, claimed: ClaimedJob) -> WorkerLost:
        """Tell the handler of a dead letter that its worker was lost; returns the error it was told."""
        return await self._tell_of_loss(claimed)

    async def _tell_of_loss(self, claimed: ClaimedJob) -> WorkerLost:
        error = WorkerLost(lost_part(claimed.lost_error or ""))
        await self._tell_of_failure(as_it_failed(claimed.job), error)
        return error

    async def _handle(self, claimed: ClaimedJob, interruption: Interruption) -> Succeeded | Failed | Released:
        logger.info("job_started", **_fields(claimed.job), attempt=claimed.attempt)
        try:
            job_type = self._registry.get(claimed.job.job_type)
            result = await self._within_time_limit(job_type, claimed.job, interruption)
            return _read(claimed.job, result)
        except Interrupted:
            return Released(worker=claimed.worker, attempt=claimed.attempt)
        except Exception as error:  # noqa: BLE001  # whatever a handler raises is its job's failure
            return _failed(error)

    async def _within_time_limit(self, job_type: JobType, job: Job, interruption: Interruption) -> JobResult:
        limit = job_type.time_limit or self._default_time_limit
        scope = asyncio.timeout(limit)
        try:
            async with scope:
                with interruption.ends(scope):
                    return await _shielded_from_exit(_handler(job_type).handle(job))
        except Exception as error:
            if interruption.requested:
                # Whatever it raised, it raised on being stopped.
                raise Interrupted from error
            if isinstance(error, TimeoutError) and scope.expired():
                raise JobTimedOut(f"the handler outlived its time limit of {limit} s") from error
            raise

    def _decide(self, job: Job, outcome: Outcome) -> Transition:
        delay = self._retry_policy.delay(job.retry_count, self._chance())
        return decide(job, outcome, retry_delay=delay)

    async def _tell_of_failure(self, job: Job, error: Exception) -> None:
        try:
            handler = _handler(self._registry.get(job.job_type))
        except (UnknownJobType, ConfigurationError):
            return  # there is nobody to tell, which is why the job failed
        try:
            async with asyncio.timeout(self._on_failure_time_limit):
                await _shielded_from_exit(handler.on_failure(job, error))
        except Exception as raised:  # what a handler's callback raises changes nothing
            logger.error("on_failure_raised", **_fields(job), error=describe(raised), exc_info=raised)


def _handler(job_type: JobType) -> JobHandler:
    if job_type.handler is None:
        raise ConfigurationError(f"job type {job_type.name!r} is only declared here: register its handler")
    return job_type.handler


async def _shielded_from_exit(work: Awaitable[T]) -> T:
    # SystemExit or a stray CancelledError out of a handler would end the process's event loop, or look like
    # somebody cancelling the run, instead of failing one job.
    try:
        return await work
    except asyncio.CancelledError as error:
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise
        raise JobFailed("the handler raised CancelledError") from error
    except GeneratorExit:
        raise
    except BaseException as error:
        if isinstance(error, Exception):
            raise
        raise JobFailed(f"the handler raised {error!r}") from error


def _read(job: Job, result: JobResult) -> Succeeded | Failed:
    # By its shape: a handler written against Portico's own classes returns Portico's JobResult.
    if not all(hasattr(result, name) for name in ("success", "error", "result_data")):
        error = JobFailed(f"the handler returned {type(result).__name__}, not a JobResult")
        return Failed(error=error, retryable=False)
    outcome = outcome_of(result)
    stored = replace(outcome, result_data=_storable(job, result.result_data))
    if isinstance(stored, Failed) and stored.error is not None and stored.error.__traceback__ is not None:
        return replace(stored, traceback=_format(stored.error))
    return stored


def _storable(job: Job, result_data: object) -> dict[str, Any]:
    """Return the data as JSON. The work is done and must not be repeated for what its report is made of."""
    data = dict(result_data or {}) if isinstance(result_data, Mapping | None) else {"result": result_data}
    try:
        json.dumps(data, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        logger.warning("result_data_not_json", **_fields(job), error=str(error), hint="values were stored as text")
        return {str(key): _as_json(value) for key, value in data.items()}
    return data


def _as_json(value: Any) -> Any:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return _as_text(value)
    return value


def _as_text(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001  # even this must not fail work that is done
        return object.__repr__(value)


def _failed(error: Exception) -> Failed:
    return Failed(error=error, retryable=True, traceback=_format(error))


def _format(error: Exception) -> str:
    return "".join(traceback.format_exception(error))


def _fields(job: Job) -> dict[str, object]:
    return {"job_id": str(job.id), "job_type": job.job_type, "retry_count": job.retry_count}


def _log_end(claimed: ClaimedJob, transition: Transition, recorded: bool) -> None:
    fields = {**_fields(claimed.job), "attempt": claimed.attempt}
    if not recorded:
        logger.warning("stale_attempt_refused", **fields)
    elif transition.status is JobStatus.RETRYING:
        logger.warning("job_retrying", **fields, error=transition.error_message, delay=round(transition.delay, 3))
    elif transition.status is JobStatus.COMPLETED:
        logger.info("job_completed", **fields)
    else:
        logger.error(f"job_{transition.status.value}", **fields, error=transition.error_message)
