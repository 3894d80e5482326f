"""The OpenAPI document, and Swagger UI to read it with. Nothing is fetched from anywhere else."""

from __future__ import annotations

import json
import mimetypes
from importlib.resources import files

from flask import Blueprint, Response, abort, url_for
from flask.typing import ResponseReturnValue

from portico_celery.adapters.job_trigger.webhook_trigger.openapi import OpenApiDocument

_FILES = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
_STARTER = "start.js"
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Jobs by webhook</title>
<link rel="stylesheet" href="{base}/swagger-ui.css">
<link rel="icon" href="{base}/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{base}/swagger-ui-bundle.js"></script>
<script src="{base}/start.js"></script>
</body>
</html>
"""
# Swagger UI sets styles and draws its icons from data: URLs.
_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"


def add_docs_pages(blueprint: Blueprint, document: OpenApiDocument) -> None:
    """Add ``/openapi.json``, ``/docs`` and what the page needs."""

    def openapi() -> ResponseReturnValue:
        server = url_for(".jobs").removesuffix("/jobs") or "/"
        return Response(json.dumps(document.build(server)), content_type="application/json")

    def page() -> ResponseReturnValue:
        html = _PAGE.format(base=url_for(".docs"))
        return Response(html, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": _POLICY})

    def asset(name: str) -> ResponseReturnValue:
        if name == _STARTER:
            return Response(_starter(), content_type="text/javascript; charset=utf-8")
        if name not in _FILES:
            abort(404)
        content = (files("flask_swagger_ui") / "dist" / name).read_bytes()
        return Response(content, content_type=mimetypes.guess_type(name)[0])

    blueprint.add_url_rule("/openapi.json", "openapi", openapi)
    blueprint.add_url_rule("/docs", "docs", page)
    blueprint.add_url_rule("/docs/<name>", "docs_asset", asset)


def _starter() -> str:
    options = {"url": url_for(".openapi"), "dom_id": "#swagger-ui", "validatorUrl": None}
    return f"SwaggerUIBundle({json.dumps(options)});"
