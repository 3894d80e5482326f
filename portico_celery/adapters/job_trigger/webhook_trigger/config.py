"""What a webhook trigger lets in, and where."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from marshmallow import Schema

from portico_celery.adapters.job_trigger.webhook_trigger.rate_limits import RateLimits
from portico_celery.adapters.job_trigger.webhook_trigger.request_schema import is_reserved_queue
from portico_celery.adapters.job_trigger.webhook_trigger.source import WebhookSource, valid_source_name
from portico_celery.adapters.job_trigger.webhook_trigger.verification.api_keys import ApiKeys
from portico_celery.exceptions import ConfigurationError

DEFAULT_MAX_BODY_BYTES = 65_536
DEFAULT_MAX_BATCH_BYTES = 1_048_576
MAX_BATCH_JOBS = 1_000
DEFAULT_QUEUE = "default"


@dataclass(frozen=True, kw_only=True)
class WebhookConfig:
    """``allowed_job_types=None`` allows every type that the job creator accepts; an empty list allows none.

    - ``authentication``: the API keys that open ``{prefix}/jobs``
    - ``jobs_open``: whether ``{prefix}/jobs`` is open to everybody; None is where there are neither keys nor sources
    - ``sources``: named senders, each at ``{prefix}/<name>``
    - ``payload_schemas``: a marshmallow schema for each job type whose payload is to be checked
    - ``priority_map``: the priority of all jobs of a type, whatever the request says
    - ``allowed_queues``: None allows each but Celery's and RabbitMQ's own
    - ``max_pending``: how many jobs may wait in a queue before further ones are refused
    - ``docs``: whether the OpenAPI document and its page are served, to anybody
    - ``jobs_api``: whether jobs can be listed, cancelled and requeued; None is where callers have to authenticate

    Mounting with ``register_blueprint(trigger.blueprint, url_prefix=...)`` puts another prefix in the place of
    ``prefix``, as Flask does with every blueprint.
    """

    prefix: str = "/webhooks"
    allowed_job_types: Collection[str] | None = None
    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES
    max_batch_bytes: int = DEFAULT_MAX_BATCH_BYTES
    default_queue: str = DEFAULT_QUEUE
    allowed_queues: Collection[str] | None = None
    payload_schemas: Mapping[str, Schema | type[Schema]] = field(default_factory=dict)
    priority_map: Mapping[str, int] = field(default_factory=dict)
    authentication: ApiKeys | None = None
    jobs_open: bool | None = None
    sources: Mapping[str, WebhookSource] = field(default_factory=dict)
    rate_limits: RateLimits = field(default_factory=RateLimits)
    max_pending: int | None = None
    jobs_api: bool | None = None
    docs: bool = True

    def __post_init__(self) -> None:
        if not self.prefix.startswith("/") or "<" in self.prefix:
            raise ConfigurationError(f"prefix must be a plain path that begins with '/', not {self.prefix!r}")
        for name in ("allowed_job_types", "allowed_queues"):
            self._keep_list(name)
        for name in ("max_body_bytes", "max_batch_bytes", "max_pending"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {number}")
        for name in (self.default_queue, *(self.allowed_queues or ())):
            if is_reserved_queue(name):
                raise ConfigurationError(f"{name!r} is no queue for jobs: name another one")
        self._check_sources()
        self._check_schemas()
        self._settle_who_may_create()

    def _keep_list(self, name: str) -> None:
        value = getattr(self, name)
        if isinstance(value, str):
            raise ConfigurationError(f"{name} must be a list: [{value!r}]")
        if value is not None:
            # What is allowed stays as it was given, whatever becomes of the caller's list.
            object.__setattr__(self, name, tuple(value))

    def _check_sources(self) -> None:
        for name, source in self.sources.items():
            valid_source_name(name)
            refused = sorted(job_type for job_type in source.job_types() if not self.allows(job_type))
            if refused:
                raise ConfigurationError(
                    f"source {name!r} creates {', '.join(refused)}: add it to allowed_job_types, or take it out"
                )

    def _check_schemas(self) -> None:
        schemas = {}
        for name, schema in self.payload_schemas.items():
            schemas[name] = schema() if isinstance(schema, type) else schema
            if not isinstance(schemas[name], Schema):
                raise ConfigurationError(f"payload_schemas[{name!r}] must be a marshmallow Schema")
        object.__setattr__(self, "payload_schemas", MappingProxyType(schemas))

    def _settle_who_may_create(self) -> None:
        if self.authentication is not None:
            if self.jobs_open:
                raise ConfigurationError("there are API keys, and jobs_open=True would let in everybody: take out one")
            return
        is_open = not self.sources if self.jobs_open is None else self.jobs_open
        if not is_open:
            # Nobody has a key, so that each request to create a job is a 401.
            object.__setattr__(self, "authentication", ApiKeys([]))

    def allows(self, job_type: str) -> bool:
        """Whether a request may create jobs of this type."""
        return self.allowed_job_types is None or job_type in self.allowed_job_types

    def payload_schema(self, job_type: str) -> Schema | None:
        """Return the schema that payloads of a type are checked by, if there is one."""
        schema = self.payload_schemas.get(job_type)
        return schema() if isinstance(schema, type) else schema

    def allows_queue(self, queue_name: str) -> bool:
        """Whether a request may name this queue."""
        return self.allowed_queues is None or queue_name in self.allowed_queues

    @property
    def has_jobs_api(self) -> bool:
        """Whether jobs can be listed and changed over HTTP."""
        return self.authentication is not None if self.jobs_api is None else self.jobs_api
