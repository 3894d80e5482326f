"""The one error tree. Everything this package raises on purpose is a PorticoError."""

from __future__ import annotations


class PorticoError(Exception):
    """The root of every error that this package raises."""


class ValidationError(PorticoError, ValueError):
    """What the caller passed in can't be accepted; the message says what to change."""


class UnknownJobType(ValidationError):
    """No handler is registered, and no name declared, for this job type."""


class ConfigurationError(PorticoError, ValueError):
    """The application is wired or configured wrongly; raised at start, not at the first job."""


class DuplicateHandler(ConfigurationError):
    """A second handler was registered for a job type."""


class ResourceNotFoundError(PorticoError, LookupError):
    """What was asked for does not exist."""


class NotSupported(PorticoError):
    """This adapter declares that it can't do what was asked; the message names what can."""


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
