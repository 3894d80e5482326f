"""The one error tree. Everything this package raises on purpose is a PorticoError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class PorticoError(Exception):
    """The root of every error that this package raises."""


class ValidationError(PorticoError, ValueError):
    """What the caller passed in can't be accepted; the message says what to change.

    ``argument`` is the one at fault, None where it is no single one.
    """

    def __init__(self, message: str = "", *, argument: str | None = None) -> None:
        super().__init__(message)
        self.argument = argument


class UnknownJobType(ValidationError):
    """No handler is registered, and no name declared, for this job type."""


class ConfigurationError(PorticoError, ValueError):
    """The application is wired or configured wrongly; raised at start, not at the first job."""


class MissingExtra(ConfigurationError, ImportError):
    """A package is not installed that one of our extras brings; ``name`` is the package's."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}: pip install 'portico-celery[{extra}]'")
        self.name = package


@contextmanager
def needs_extra(what: str, extra: str) -> Iterator[None]:
    """Name the extra to install where an import in this block finds a package missing. Raises MissingExtra."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "portico_celery", "webhook_app"):
            raise
        raise MissingExtra(what, package, extra) from error


class DuplicateHandler(ConfigurationError):
    """A second handler was registered for a job type."""


class InvalidSchedule(ConfigurationError):
    """A schedule can't be; ``setting`` is the part that is at fault."""

    def __init__(self, setting: str, fault: str) -> None:
        super().__init__(f"{setting}: {fault}")
        self.setting = setting


class ResourceNotFoundError(PorticoError, LookupError):
    """What was asked for does not exist."""


class NotSupported(PorticoError):
    """This adapter declares that it can't do what was asked; the message names what can."""


class StillInUse(PorticoError):
    """What was to be closed is needed by something that runs; the message says by what."""


class StoreError(PorticoError):
    """The job store failed in a way that trying again will not mend."""


class StoreUnavailable(StoreError):
    """The job store did not answer in time. Nothing is promised; trying again may help."""


class StoreSchemaTooNew(StoreError, ConfigurationError):
    """The store was migrated by a newer version of this package."""


class StaleAttempt(PorticoError):
    """This attempt no longer owns its job: its lease expired and somebody else went on with it."""


class JobFailed(PorticoError):
    """A handler returned JobResult(success=False) without naming an error."""


class JobTimedOut(PorticoError, TimeoutError):
    """A handler outlived its time limit."""


class WorkerLost(PorticoError):
    """The worker that ran the job disappeared; whether the job's effects happened is unknown."""
