"""Which job types there are, and which handler processes each."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

from portico_celery.exceptions import ConfigurationError, DuplicateHandler, UnknownJobType
from portico_celery.kits.job.new_job import JOB_TYPE_RULE, is_job_type, valid_queue_name
from portico_celery.ports.job_handler import JobHandler


@dataclass(frozen=True, kw_only=True)
class JobType:
    """A job type: ``handler`` is None where only its name is known, ``time_limit`` is in seconds."""

    name: str
    handler: JobHandler | None = None
    queue_name: str | None = None
    time_limit: float | None = None


class HandlerRegistry:
    """Knows every job type by name, one handler each."""

    def __init__(self) -> None:
        self._types: dict[str, JobType] = {}

    def register(self, handler: Any, *, queue: str | None = None, time_limit: float | None = None) -> JobType:
        """Add a handler: any object with ``job_type``, ``handle`` and ``on_failure``.

        Raises DuplicateHandler where its type has one, ConfigurationError where it is no handler.
        """
        name = _checked_shape(handler)
        known = self._types.get(name)
        if known is not None and known.handler is not None:
            raise DuplicateHandler(
                f"job type {name!r} has a handler already, {type(known.handler).__qualname__}: "
                "register one handler for each type"
            )
        if time_limit is not None and not time_limit > 0:
            raise ConfigurationError(f"time_limit must be a number of seconds above 0, not {time_limit!r}")
        queue_name = queue if queue is not None or known is None else known.queue_name
        return self._add(
            JobType(
                name=name,
                handler=cast("JobHandler", handler),
                queue_name=queue_name,
                time_limit=time_limit,
            )
        )

    def declare(self, job_type: str, *, queue: str | None = None) -> JobType:
        """Add a type by its name alone: enough to create its jobs, in a process that runs none."""
        known = self._types.get(job_type)
        if known is None:
            return self._add(JobType(name=_checked_name(job_type), queue_name=queue))
        if queue is not None and known.queue_name not in (None, queue):
            raise ConfigurationError(f"job type {job_type!r} has the queue {known.queue_name!r} already, not {queue!r}")
        return known if queue is None else self._add(replace(known, queue_name=queue))

    def _add(self, job_type: JobType) -> JobType:
        if job_type.queue_name is not None:
            valid_queue_name(job_type.queue_name)
        self._types[job_type.name] = job_type
        return job_type

    def get(self, job_type: str) -> JobType:
        """Return the type. Raises UnknownJobType, which names the types there are."""
        try:
            return self._types[job_type]
        except (KeyError, TypeError):  # TypeError: not even a name
            known = ", ".join(sorted(self._types)) or "none"
            raise UnknownJobType(
                f"no handler for job type {job_type!r}: register one, or declare the type by its name (known: {known})",
                argument="job_type",
            ) from None

    def __contains__(self, job_type: str) -> bool:
        return job_type in self._types

    def __iter__(self) -> Iterator[JobType]:
        return iter(tuple(self._types.values()))


def _checked_shape(handler: Any) -> str:
    if inspect.isclass(handler):
        raise ConfigurationError(f"register an instance, not the class: {handler.__qualname__}(...)")
    missing = [name for name in ("handle", "on_failure") if not _is_async_method(handler, name)]
    if missing or not hasattr(handler, "job_type"):
        wants = [*(["job_type"] if not hasattr(handler, "job_type") else []), *missing]
        raise ConfigurationError(
            f"{type(handler).__qualname__} is no job handler: it lacks {' and '.join(wants)} "
            "(job_type is a string, handle and on_failure are async methods)"
        )
    return _checked_name(handler.job_type)


def _is_async_method(handler: Any, name: str) -> bool:
    method = getattr(handler, name, None)
    return callable(method) and (
        inspect.iscoroutinefunction(method) or inspect.iscoroutinefunction(type(method).__call__)
    )


def _checked_name(name: object) -> str:
    if not is_job_type(name):
        raise ConfigurationError(f"job_type must be {JOB_TYPE_RULE}, not {name!r}")
    return name
