"""The OpenAPI 3.1 document of a trigger, made by apispec from the very schemas that read the requests."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema

from portico_celery.adapters.job_trigger.webhook_trigger.answer_schemas import (
    AcceptedSchema,
    BatchOutcomeSchema,
    JobPageSchema,
    JobSchema,
    JobSummarySchema,
    ProblemSchema,
    QueueStatsSchema,
)
from portico_celery.adapters.job_trigger.webhook_trigger.config import MAX_BATCH_JOBS, WebhookConfig
from portico_celery.adapters.job_trigger.webhook_trigger.documented_answers import accepted, problem, success
from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import JSON
from portico_celery.adapters.job_trigger.webhook_trigger.idempotency import KEY
from portico_celery.adapters.job_trigger.webhook_trigger.list_query import JobListSchema, JobWaitSchema
from portico_celery.adapters.job_trigger.webhook_trigger.request_schema import BatchItemSchema, JobRequestSchema

_KEY = {"bearer": {"type": "http", "scheme": "bearer", "description": "An API key, pk_..."}}
# What any address may answer, whatever it is asked.
_ALWAYS = (401, 405, 429, 501, 503)
_WITH_BODY = (400, 403, 408, 413, 415, 422)
_JOB_ID = {"in": "path", "name": "job_id", "required": True, "schema": {"type": "string", "format": "uuid"}}
_QUEUE = {"in": "path", "name": "queue_name", "required": True, "schema": {"type": "string"}}
_IDEMPOTENCY = {
    "in": "header",
    "name": "Idempotency-Key",
    "description": "The same key is the same job; with another body it is refused (422).",
    "schema": {"type": "string", "pattern": KEY.pattern},
}


class OpenApiDocument:
    """``rules`` are the addresses that the trigger has, by name."""

    def __init__(self, config: WebhookConfig, rules: Iterable[tuple[str, str]]) -> None:
        self._config = config
        self._rules = list(rules)

    def build(self, server: str) -> dict[str, Any]:
        """Return the document; ``server`` is the address of the prefix."""
        spec = APISpec(
            title="Jobs by webhook",
            version=version("portico-celery"),
            openapi_version="3.1.0",
            plugins=[MarshmallowPlugin(schema_name_resolver=_name_of)],
            servers=[{"url": server}],
        )
        spec.components.schema("Problem", schema=ProblemSchema)
        spec.components.schema("JobRequest", component=self._job_request(spec, JobRequestSchema))
        if self._config.authentication is not None:
            spec.components.security_scheme("bearer", _KEY["bearer"])
        for rule, name in self._rules:
            spec.path(path=rule.replace("<", "{").replace(">", "}"), operations=self._operations(spec, name))
        return spec.to_dict()

    def _operations(self, spec: APISpec, name: str) -> dict[str, Any]:
        if name.startswith("source_"):
            return {"post": self._source(name.removeprefix("source_"))}
        return {  # type: ignore[no-untyped-call]  # apispec types a part of itself
            "jobs": lambda: self._jobs(),
            "batch": lambda: {"post": self._batch(spec)},
            "job": lambda: {"get": self._read("Show a job", JobSchema, [_JOB_ID, _query(JobWaitSchema)], 404, 400)},
            "cancel": lambda: {"post": self._change("Cancel a job that waits")},
            "requeue": lambda: {"post": self._change("Start a failed job afresh")},
            "queue": lambda: {"get": self._read("Count the jobs of a queue", QueueStatsSchema, [_QUEUE], 404)},
        }[name]()

    def _jobs(self) -> dict[str, Any]:
        create = {
            **self._operation("Create a job", [_IDEMPOTENCY], accepted(AcceptedSchema), *_WITH_BODY),
            "requestBody": _body({"$ref": "#/components/schemas/JobRequest"}),
        }
        if not self._config.has_jobs_api:
            return {"post": create}
        return {"post": create, "get": self._read("List jobs", JobPageSchema, [_query(JobListSchema)], 400)}

    def _batch(self, spec: APISpec) -> dict[str, Any]:
        jobs = {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_BATCH_JOBS,
            "items": self._job_request(spec, BatchItemSchema),
        }
        schema = {"type": "object", "properties": {"jobs": jobs}, "required": ["jobs"], "additionalProperties": False}
        return {
            **self._operation("Create many jobs", [_IDEMPOTENCY], accepted(BatchOutcomeSchema), *_WITH_BODY),
            "requestBody": _body(schema),
        }

    def _source(self, name: str) -> dict[str, Any]:
        answers = {**accepted(AcceptedSchema), **success("The sender's challenge.", {"type": "object"})}
        operation = self._operation(f"Deliver an event of {name}", [], answers, *_WITH_BODY)
        return {**operation, "security": [], "requestBody": _body({"type": "object"})}

    def _read(self, summary: str, schema: type[Schema], parameters: list[Any], *problems: int) -> dict[str, Any]:
        return self._operation(summary, parameters, success("Found.", schema), *problems)

    def _change(self, summary: str) -> dict[str, Any]:
        return self._operation(summary, [_JOB_ID], success("Done.", JobSummarySchema), 404, 408, 409, 413)

    def _operation(self, summary: str, parameters: list[Any], answer: dict[str, Any], *problems: int) -> dict[str, Any]:
        for status in (*problems, *_ALWAYS):
            answer = {**answer, **problem(status)}
        security: list[Any] = [{"bearer": []}] if self._config.authentication is not None else []
        return {
            "summary": summary,
            "parameters": parameters,
            "responses": answer,
            "security": security,
        }

    def _job_request(self, spec: APISpec, schema: type[Schema]) -> dict[str, Any]:
        """Return the schema of a request: one kind for each type whose payload has a schema, and one for the rest."""
        converter = spec.plugins[0].converter  # type: ignore[attr-defined]  # the only plugin is marshmallow's
        general: dict[str, Any] = _with(converter.schema2jsonschema(schema()), **self._queues())
        kinds = []
        for job_type in self._config.payload_schemas:
            payload = converter.resolve_nested_schema(self._config.payload_schema(job_type))
            if self._config.allows(job_type):
                kinds.append(_with(general, job_type={"const": job_type}, payload=payload))
        rest = self._other_types()
        if rest is not None:
            kinds.append(_with(general, job_type={**general["properties"]["job_type"], **rest}))
        return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}

    def _queues(self) -> dict[str, Any]:
        """Return what a queue may be where not any is allowed."""
        allowed = list(self._config.allowed_queues or ())
        if not allowed:
            return {}
        example = self._config.default_queue if self._config.default_queue in allowed else allowed[0]
        queue_name = {"type": "string", "description": "The queue.", "enum": allowed, "examples": [example]}
        return {"queue_name": queue_name}

    def _other_types(self) -> dict[str, Any] | None:
        """Return what holds for the types without a schema of their own; None where there are none."""
        with_schema = sorted(self._config.payload_schemas)
        if self._config.allowed_job_types is None:
            return {"not": {"enum": with_schema}} if with_schema else {}
        others = [name for name in self._config.allowed_job_types if name not in with_schema]
        return {"enum": others} if others else None


def _with(general: dict[str, Any], **properties: Any) -> dict[str, Any]:
    return {**general, "properties": {**general["properties"], **properties}}


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {JSON: {"schema": schema}}}


def _query(schema: type[Schema]) -> dict[str, Any]:
    return {"in": "query", "schema": schema}


def _name_of(schema: Schema | type[Schema]) -> str:
    kind = schema if isinstance(schema, type) else type(schema)
    return kind.__name__.removesuffix("Schema")
