"""The OpenAPI document tells the truth: schemathesis holds the application to it."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from flask import Flask
from hypothesis import HealthCheck, settings
from marshmallow import Schema

from portico_celery.adapters.job_trigger.webhook_trigger import ApiKeys, PublicUrl
from tests.unit.webhook.mounted import Mounted, a_key
from tests.unit.webhook.openapi_application import Documented, Mail

#: How many examples for each operation; the full size is 1,000.
EXAMPLES = int(os.environ.get("PORTICO_SCHEMATHESIS_EXAMPLES", "15"))


class Hook(Schema):
    url = PublicUrl(required=True)


SHOP_KEY, AS_SHOP = a_key("shop")
OPEN = Documented(jobs_open=True, payload_schemas={"email.send": Mail})
WITH_KEYS = Documented(headers=AS_SHOP, authentication=ApiKeys([SHOP_KEY]))
MOUNTED = OPEN.mounted
APPLICATION: Flask = MOUNTED.client.application

documented = settings(max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


@OPEN.schema.parametrize()
@documented
def test_no_answer_is_other_than_documented_and_nothing_invalid_is_accepted(case: Any) -> None:
    OPEN.hold(case)


@WITH_KEYS.schema.parametrize()
@documented
def test_nor_is_any_where_keys_are_needed_and_nobody_comes_in_without(case: Any) -> None:
    WITH_KEYS.hold(case)


def document() -> dict[str, Any]:
    found: dict[str, Any] = MOUNTED.get("/openapi.json").get_json()
    return found


def test_every_address_is_in_the_document() -> None:
    rules = {
        rule.rule.removeprefix("/webhooks").replace("<", "{").replace(">", "}")
        for rule in APPLICATION.url_map.iter_rules()
        if rule.rule.startswith("/webhooks") and "/docs" not in rule.rule and "/openapi" not in rule.rule
    }

    assert document()["openapi"].startswith("3.1")
    assert set(document()["paths"]) == rules
    assert "/shop" in rules


def test_the_payload_of_each_type_with_a_schema_is_in_the_document() -> None:
    kinds = document()["components"]["schemas"]["JobRequest"]["anyOf"]

    assert kinds[0]["properties"]["job_type"] == {"const": "email.send"}
    name = kinds[0]["properties"]["payload"]["$ref"].rpartition("/")[2]
    assert document()["components"]["schemas"][name]["properties"]["to"]["format"] == "email"


def test_what_the_page_offers_to_try_is_accepted_as_it_stands() -> None:
    configs: list[dict[str, Any]] = [{}, {"allowed_queues": ["mails", "reports"], "default_queue": "reports"}]
    for config in configs:
        mounted = Mounted(payload_schemas={"email.send": Mail, "hook.call": Hook}, **config)
        found = mounted.get("/openapi.json").get_json()["components"]["schemas"]
        for kind in found["JobRequest"]["anyOf"]:
            properties = {name: sample(schema, found) for name, schema in kind["properties"].items()}
            assert mounted.post("/jobs", properties).status_code == 202, properties


def sample(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """As Swagger UI makes up a value: by the first example, else by what the schema says."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if "examples" in schema:
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    if schema.get("type") == "object":
        return {name: sample(one, schemas) for name, one in schema.get("properties", {}).items()}
    return {"email": "user@example.com", "date-time": datetime.now(UTC).isoformat()}.get(
        schema.get("format", ""), "string"
    )


def test_the_page_needs_nothing_from_anywhere_else() -> None:
    page = MOUNTED.get("/docs")

    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    assert "//" not in page.text.replace("<!doctype html>", "")
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js", "favicon-32x32.png"):
        assert f"/webhooks/docs/{name}" in page.text
        assert MOUNTED.get(f"/docs/{name}").data
    assert MOUNTED.get("/docs/LICENSE").status_code == 404


def test_where_keys_are_needed_the_document_says_so() -> None:
    key, _as_shop = a_key("shop")
    found = Mounted(authentication=ApiKeys([key])).get("/openapi.json").get_json()

    assert found["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert found["paths"]["/jobs"]["post"]["security"] == [{"bearer": []}]


def test_without_docs_there_are_none() -> None:
    assert Mounted(docs=False).get("/openapi.json").status_code == 404
