"""The Lua scripts of the Redis store: found beside this module, and known to the server by their digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError

from portico_celery.adapters.job_store.redis_client import checked, pipelined

Request = Mapping[str, Any]

_WALKING = {"list_jobs", "requeue", "discard"}

# Not in ASCII: cjson refuses the escape of half a surrogate pair, and passes on its bytes as they are.
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@cache
def source_of(script: str) -> str:
    """Return the whole text of a script: all begin with what they share, and some with how to walk through jobs."""
    directory = resources.files("portico_celery.adapters.job_store") / "lua"
    parts = ("common", "walk", script) if script in _WALKING else ("common", script)
    return "\n".join((directory / f"{name}.lua").read_text(encoding="utf-8") for name in parts)


@cache
def digest_of(script: str) -> str:
    """Return the name that a Redis server gives a script."""
    return hashlib.sha1(source_of(script).encode(), usedforsecurity=False).hexdigest()


def run(client: Redis, script: str, tag: str, clock_offset: int, requests: Iterable[Request]) -> list[Any]:
    """Run a script once for each request, in one pipeline and without a transaction; the answers in order."""
    shared = ("EVALSHA", digest_of(script), 1, tag, clock_offset)
    commands = [(*shared, _encoder.encode(request)) for request in requests]
    answers = pipelined(client, commands)
    unknown = [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:
        # The server is new, or has been restarted. Others may have told it the script while the pipeline ran: only
        # what was not run is run again.
        load = ("SCRIPT LOAD", source_of(script))
        _, *again = pipelined(client, [load, *(commands[index] for index in unknown)])
        for index, answer in zip(unknown, again, strict=True):
            answers[index] = answer
    return checked(answers)
