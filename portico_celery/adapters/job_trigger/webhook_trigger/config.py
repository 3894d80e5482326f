"""What a webhook trigger lets in, and where."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from portico_celery.exceptions import ConfigurationError

DEFAULT_MAX_BODY_BYTES = 65_536


@dataclass(frozen=True, kw_only=True)
class WebhookConfig:
    """``allowed_job_types=None`` allows every type that the job creator accepts; an empty list allows none.

    Mounting with ``register_blueprint(trigger.blueprint, url_prefix=...)`` puts another prefix in the place of
    ``prefix``, as Flask does with every blueprint.
    """

    prefix: str = "/webhooks"
    allowed_job_types: Collection[str] | None = None
    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES

    def __post_init__(self) -> None:
        if not self.prefix.startswith("/") or "<" in self.prefix:
            raise ConfigurationError(f"prefix must be a plain path that begins with '/', not {self.prefix!r}")
        if isinstance(self.allowed_job_types, str):
            raise ConfigurationError(f"allowed_job_types must be a list of job types: [{self.allowed_job_types!r}]")
        if self.max_body_bytes < 1:
            raise ConfigurationError(f"max_body_bytes must be at least 1, not {self.max_body_bytes}")
        if self.allowed_job_types is not None:
            # What is allowed stays as it was given, whatever becomes of the caller's list.
            object.__setattr__(self, "allowed_job_types", tuple(self.allowed_job_types))

    def allows(self, job_type: str) -> bool:
        """Whether a request may create jobs of this type."""
        return self.allowed_job_types is None or job_type in self.allowed_job_types
