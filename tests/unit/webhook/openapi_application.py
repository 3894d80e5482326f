"""Applications that are held to their OpenAPI documents, and the checks that schemathesis leaves to us.

Its own two on data are wrapped here: a rule beyond JSON Schema may refuse what is valid, and a batch refuses what is
invalid by an outcome for each job.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from http import HTTPStatus
from itertools import count
from typing import Any

import jsonschema_rs
import schemathesis
from hypothesis import strategies
from marshmallow import Schema, fields
from schemathesis.checks import CheckContext
from schemathesis.config import SchemathesisConfig
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from portico_celery.adapters.job_trigger.webhook_trigger import EventJob, NoVerification, WebhookSource
from tests.unit.webhook.mounted import MAIL, Mounted

KEY = "Idempotency-Key"
_BATCH = "POST /jobs/batch"
_DAY = 24 * 60
_TOO_LARGE = 10**20
_numbers = count()
_WHOLE_NUMBERS = ("priority", "max_retries")

#: What a valid request may get beside success. 404 and 409 are about what is there, which no schema can say.
_REFUSALS = {
    "GET /jobs/{job_id}": ["404"],
    "POST /jobs/{job_id}/cancel": ["404", "409"],
    "POST /jobs/{job_id}/requeue": ["404", "409"],
    "GET /queues/{queue_name}/stats": ["404"],
}
# No 422: that a key was used before must not hide that what comes with it is invalid.
_REJECTIONS = ["400", "401", "404", "405", "409", "415"]


class Mail(Schema):
    to = fields.Email(required=True)


class Documented:
    """An application with every address that a trigger can have, and jobs that requests find there."""

    def __init__(self, headers: Mapping[str, str] | None = None, **config: Any) -> None:
        source = WebhookSource(scheme=NoVerification(), events={"*": EventJob(job_type="order.ship")})
        self.headers = dict(headers or {})
        self.mounted = Mounted(jobs_api=True, sources={"shop": source}, **config)
        self.schema = schemathesis.openapi.from_wsgi(
            "/webhooks/openapi.json", self.mounted.client.application, config=self._config()
        )

    def hold(self, case: Any) -> None:
        """Send a request, and hold the answer to the document by every check there is."""
        case.call_and_validate(
            headers=self.headers,
            excluded_checks=[positive_data_acceptance, negative_data_rejection],
            additional_checks=[valid_data_is_accepted, invalid_data_is_refused],
        )

    def _config(self) -> SchemathesisConfig:
        ids = {
            # Ended, since a look at one that waits may take as long as it asks for.
            "GET /jobs/{job_id}": self._job("shown", ended=True),
            "POST /jobs/{job_id}/cancel": self._job("cancelled"),
            "POST /jobs/{job_id}/requeue": self._job("requeued", ended=True),
        }
        operations: list[dict[str, Any]] = [
            {"include-name": name, "checks": _expecting("2xx", *refusals)} for name, refusals in _REFUSALS.items()
        ]
        for operation in operations:
            if operation["include-name"] in ids:
                found = {"dictionary": operation["include-name"], "probability": 0.5}
                operation["parameters"] = {"path.job_id": found}
        return SchemathesisConfig.from_dict(
            {
                "seed": 1,
                "checks": _expecting("2xx"),
                "dictionaries": {name: {"values": [job_id]} for name, job_id in ids.items()},
                "operations": operations,
            }
        )

    def _job(self, key: str, *, ended: bool = False) -> str:
        # By its key a job has the same id in every run.
        job_id = str(self.mounted.post("/jobs", MAIL, {**self.headers, KEY: key}).get_json()["job_id"])
        if ended:
            assert self.mounted.post(f"/jobs/{job_id}/cancel", None, self.headers).status_code == HTTPStatus.OK
        return job_id


def valid_data_is_accepted(ctx: CheckContext, response: Response, case: Any) -> bool | None:
    """Hold to schemathesis' check, unless a rule refuses the request that JSON Schema has no words for."""
    if not _is_valid(case):
        return None
    if _is_for_its_key(response):
        response = _ask_again(response, case)
    if response.status_code == HTTPStatus.BAD_REQUEST:
        document = _sent(response) if response.request.body else case.query
        if _is_beyond_schemas(response.json(), document):
            return None
    if response.status_code == HTTPStatus.ACCEPTED and case.operation.label == _BATCH:
        _require_good_reasons(response)
    return positive_data_acceptance(ctx, response, case)


def invalid_data_is_refused(ctx: CheckContext, response: Response, case: Any) -> bool | None:
    """Hold to schemathesis' check, and each job of a batch to its own schema: an outcome refuses it."""
    if case.operation.label == _BATCH and response.status_code == HTTPStatus.ACCEPTED:
        invalid = _require_refusal_of_invalid_jobs(response, case)
        if invalid and case.meta.is_negative_at(ParameterLocation.BODY):
            return None
    if _is_for_its_key(response) and not _is_valid(case):
        response = _ask_again(response, case)
    return negative_data_rejection(ctx, response, case)


def _require_refusal_of_invalid_jobs(response: Response, case: Any) -> int:
    """Return how many jobs of a batch are invalid, each of which must have been refused for that."""
    document = case.operation.schema.raw_schema
    body = document["paths"]["/jobs/batch"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    schema = {**body["properties"]["jobs"]["items"], "components": document["components"]}
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    invalid = [(job, outcome) for job, outcome in _outcomes(response) if not validator.is_valid(job)]
    for job, outcome in invalid:
        if outcome["status"] == HTTPStatus.UNPROCESSABLE_ENTITY:
            job.pop("idempotency_key", None)
            ((_, outcome),) = _outcomes(_ask_again(response, case, {"jobs": [job]}))
        assert outcome["status"] == HTTPStatus.BAD_REQUEST, f"an invalid job was not refused as such: {job}: {outcome}"
    assert response.json()["refused"] >= len(invalid)
    return len(invalid)


def _require_good_reasons(response: Response) -> None:
    """Require that what refuses a valid job of a batch is a rule beyond schemas."""
    seen: set[str | None] = set()
    for job, outcome in _outcomes(response):
        key = job.get("idempotency_key")
        taken = outcome["status"] == HTTPStatus.ACCEPTED
        used = outcome["status"] == HTTPStatus.UNPROCESSABLE_ENTITY and (key or KEY in response.request.headers)
        good = taken or used or (key is not None and key in seen) or _is_beyond_schemas(outcome, job)
        assert good, f"a valid job was refused: {job}: {outcome}"
        seen.add(key)


def _is_for_its_key(response: Response) -> bool:
    return response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY and KEY in response.request.headers


def _ask_again(response: Response, case: Any, document: Any = None) -> Response:
    """Ask with another key: that the first was used before must not hide what there is to say to the rest."""
    kept = {name: value for name, value in response.request.headers.items() if name == "Authorization"}
    body = {} if document is None else {"json": document}
    again: Response = case.call(headers={**kept, KEY: f"another-{next(_numbers)}"}, **body)
    return again


def _is_beyond_schemas(problem: Mapping[str, Any], document: Any) -> bool:
    """Whether a rule beyond schemas is what a document was refused by."""
    errors = problem.get("errors")
    if errors is None:
        return any(_is_refused_anywhere(value) for value in _values(document))
    # JSON Schema takes 8.0 for an integer. Of a cursor only the store knows whether it has given it.
    return all(
        name in document and (name == "cursor" or (name in _WHOLE_NUMBERS and isinstance(document[name], float)))
        for name in errors
    )


def _is_refused_anywhere(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    return isinstance(value, int) and abs(value) >= _TOO_LARGE


def _values(value: Any) -> Iterator[Any]:
    """Yield every value within a document, and the names of its members."""
    yield value
    if isinstance(value, dict):
        yield from value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _values(child)


def _is_valid(case: Any) -> bool:
    return case.meta is not None and bool(case.meta.generation.mode.is_positive)


def _sent(response: Response) -> Any:
    body = response.request.body
    assert isinstance(body, bytes)
    return json.loads(body)


def _outcomes(response: Response) -> Iterator[tuple[Any, Any]]:
    return zip(_sent(response)["jobs"], response.json()["jobs"], strict=True)


def _expecting(*statuses: str) -> dict[str, Any]:
    return {
        "positive_data_acceptance": {"expected-statuses": list(statuses)},
        "negative_data_rejection": {"expected-statuses": _REJECTIONS},
    }


def _near(minutes: int, offset: int) -> str:
    zone = timezone(timedelta(minutes=offset))
    return (datetime.now(UTC) + timedelta(minutes=minutes)).astimezone(zone).isoformat()


# Of all times there are, hardly one is near enough to be taken, and few valid jobs would be accepted. Some are made up
# when tests are collected, and sent much later.
schemathesis.openapi.format(
    "date-time",
    strategies.builds(_near, strategies.integers(_DAY, 365 * _DAY), strategies.integers(-14 * 60, 14 * 60)),
)
