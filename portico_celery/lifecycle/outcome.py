"""How a run of a job came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portico_celery.exceptions import JobFailed
from portico_celery.ports.job import JobResult


@dataclass(frozen=True, kw_only=True)
class Succeeded:
    """The handler returned success."""

    result_data: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The handler failed. ``retryable`` is False for an expected failure; ``error_message`` overrides the error's."""

    error: Exception | None = None
    retryable: bool = True
    error_message: str | None = None
    result_data: Mapping[str, Any] | None = None
    traceback: str | None = None


@dataclass(frozen=True, kw_only=True)
class Lost:
    """The worker that ran attempt ``attempt`` let its lease expire, or was killed at a ``time_limit`` (seconds)."""

    worker: str
    attempt: int
    time_limit: float | None = None


@dataclass(frozen=True, kw_only=True)
class Released:
    """The worker shut down, or was told to stop the handler, before attempt ``attempt`` came to its end."""

    worker: str
    attempt: int


Outcome = Succeeded | Failed | Lost | Released


def outcome_of(result: JobResult) -> Succeeded | Failed:
    """Read a handler's result: failure is final unless ``retry_recommended`` is True."""
    if result.success:
        return Succeeded(result_data=result.result_data)
    error: object = result.error
    data: Any = result.result_data
    if not isinstance(error, Exception):  # None, or text, whatever the port says
        error = JobFailed(f"the handler returned success=False: {error or data!r}")
    retryable = isinstance(data, Mapping) and data.get("retry_recommended") is True
    return Failed(error=error, retryable=retryable, result_data=data)
