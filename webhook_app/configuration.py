"""What the application is told by its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from portico_celery.exceptions import ConfigurationError

_APP = "PORTICO_APP"
_OURS = "PORTICO_WEBHOOK_"
_PREFIX = "PORTICO_WEBHOOK_PREFIX"
_ALLOWED = "PORTICO_WEBHOOK_ALLOWED_JOB_TYPES"


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Read from the environment variables of these names.

    - PORTICO_APP: where the Celery application is, as ``celery -A`` takes it
    - PORTICO_WEBHOOK_PREFIX: where the webhook is mounted, ``/webhooks``
    - PORTICO_WEBHOOK_ALLOWED_JOB_TYPES: the types that may be created, separated by commas; empty means all
    """

    celery_app: str | None = None
    prefix: str = "/webhooks"
    allowed_job_types: tuple[str, ...] | None = None

    @classmethod
    def read(cls, config: Mapping[str, object]) -> Configuration:
        """Read ``config`` and, for what it does not say, the environment. Raises ConfigurationError."""
        values = {**os.environ, **config}
        _refuse_unknown(values)
        return cls(
            celery_app=_text(values, _APP) or None,
            prefix=_text(values, _PREFIX) or cls.prefix,
            allowed_job_types=_job_types(_text(values, _ALLOWED)),
        )


def _job_types(text: str) -> tuple[str, ...] | None:
    # Nothing but commas is a mistake, and a mistake does not open the door: it allows no type.
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text else None


def _refuse_unknown(values: Mapping[str, object]) -> None:
    # A misspelt allowlist would let in every type.
    unknown = sorted(name for name in values if name.startswith(_OURS) and name not in (_PREFIX, _ALLOWED))
    if unknown:
        raise ConfigurationError(f"{', '.join(unknown)}: not known here; known are {_APP}, {_PREFIX} and {_ALLOWED}")


def _text(values: Mapping[str, object], name: str) -> str:
    value = values.get(name, "")
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be text, as in the environment, not {type(value).__name__}")
    return value.strip()
