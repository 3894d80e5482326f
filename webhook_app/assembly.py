"""From the configuration's values to the trigger's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from marshmallow import Schema, ValidationError

from portico_celery.adapters.job_trigger.webhook_trigger import (
    ApiKey,
    ApiKeys,
    EventJob,
    GitHub,
    HmacSignature,
    NoVerification,
    RateLimits,
    Slack,
    StandardWebhooks,
    Stripe,
    WebhookConfig,
    WebhookSource,
)
from portico_celery.adapters.job_trigger.webhook_trigger.verification import SenderScheme
from portico_celery.exceptions import ConfigurationError
from webhook_app.configuration_schema import EventSchema, misplaced

_AS_THEY_ARE = (
    "prefix",
    "allowed_job_types",
    "allowed_queues",
    "default_queue",
    "max_body_bytes",
    "max_batch_bytes",
    "max_pending",
    "jobs_api",
    "docs",
)
_SCHEMES: dict[str, Callable[[list[str]], SenderScheme]] = {
    "standard-webhooks": StandardWebhooks,
    "github": GitHub,
    "stripe": Stripe,
    "slack": Slack,
}
_OF_ALL_SCHEMES = ("scheme", "events", "secrets", "max_body_bytes")


def webhook_config(values: Mapping[str, Any]) -> WebhookConfig:
    """Build the trigger's configuration. Raises ConfigurationError."""
    sources = {name: _source(name, source) for name, source in values.get("sources", {}).items()}
    return WebhookConfig(
        **{name: values[name] for name in _AS_THEY_ARE if name in values},
        priority_map=values.get("priorities", {}),
        payload_schemas={name: _schema(path) for name, path in values.get("payload_schemas", {}).items()},
        authentication=_authentication(values),
        jobs_open=values.get("auth") == "none",
        sources=sources,
        rate_limits=RateLimits(**values.get("rate_limits", {})),
    )


def _authentication(values: Mapping[str, Any]) -> ApiKeys | None:
    keys = values.get("keys", [])
    auth = values.get("auth") or ("keys" if keys or values.get("sources") else None)
    if auth is None:
        raise ConfigurationError(
            "whoever reaches the webhook could create jobs: make an API key (python -m webhook_app make-key), name a "
            'source, or say auth = "none" (PORTICO_WEBHOOK_AUTH=none) where something else keeps strangers out'
        )
    if auth == "keys" and not keys and not values.get("sources"):
        raise ConfigurationError(
            'auth = "keys" without a key lets in nobody: make one (python -m webhook_app make-key), or name a source'
        )
    if auth == "none" and keys:
        raise ConfigurationError('there are API keys, and auth = "none" would let in everybody: take out one of them')
    return None if auth == "none" else ApiKeys(ApiKey(**key) for key in keys)


def _source(name: str, values: Mapping[str, Any]) -> WebhookSource:
    return WebhookSource(
        scheme=_scheme(name, values),
        max_body_bytes=values.get("max_body_bytes"),
        events={event: _event(name, event, job) for event, job in values["events"].items()},
    )


def _scheme(name: str, values: Mapping[str, Any]) -> SenderScheme:
    kind, secrets = values["scheme"], [_secret(name, text) for text in values["secrets"]]
    options = {option: value for option, value in values.items() if option not in _OF_ALL_SCHEMES}
    if options and kind != "hmac":
        raise ConfigurationError(f"source {name!r}: only hmac has {', '.join(sorted(options))}, not {kind}")
    if kind == "hmac":
        if "signature_header" not in options:
            raise ConfigurationError(f"source {name!r} with the scheme hmac needs a signature_header")
        return HmacSignature(secrets=secrets, **options)
    if kind == "none":
        if secrets:
            raise ConfigurationError(f"source {name!r} has secrets, which its scheme none does not check: name another")
        return NoVerification()
    return _SCHEMES[kind](secrets)


def _secret(source: str, text: str) -> str:
    """Return a secret: ``$NAME`` is what the environment has under that name."""
    if not text.startswith("$"):
        return text
    value = os.environ.get(text[1:])
    if not value:
        raise ConfigurationError(f"source {source!r} takes its secret from {text[1:]}, which is not set")
    return value


def _event(source: str, event: str, job: Any) -> EventJob | str:
    if isinstance(job, str):
        return job
    try:
        return EventJob(**EventSchema().load(job))
    except ValidationError as error:
        raise ConfigurationError(
            f"source {source!r}, event {event!r}: {error.messages_dict}{misplaced(error.messages_dict)}"
        ) from None


def _schema(path: str) -> Schema | type[Schema]:
    module, _, name = path.partition(":")
    try:
        schema = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"payload_schemas: {path!r} can't be imported: write module:Class") from error
    if not (isinstance(schema, Schema) or (isinstance(schema, type) and issubclass(schema, Schema))):
        raise ConfigurationError(f"payload_schemas: {path!r} is no marshmallow Schema")
    return schema
