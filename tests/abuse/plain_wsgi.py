"""An application of somebody else, which knows nothing of ours."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Say how long the body was, and how many objects the garbage collector leaves alone."""
    body = environ["wsgi.input"].read()
    answer = str(len(body)).encode()
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))]
    start_response("200 OK", [*headers, ("X-Frozen", str(gc.get_freeze_count()))])
    return [answer]
