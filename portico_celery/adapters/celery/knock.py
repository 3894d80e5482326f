"""The knock: the Celery message that tells a worker that a job is ready. It carries no payload.

It is an ordinary protocol 2 message, named for its job type, so that every tool of Celery's reads it; a header of our
own says that its job lives in the store. A message without that header comes from a plain Celery client.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from functools import lru_cache
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from celery.utils.nodenames import anon_nodename
from kombu.utils import json as kombu_json

from portico_celery.ports.job import Job, JobStatus
from portico_celery.ports.job_store import Knock

HEADER = "portico"
_KNOCK = "knock"
_ENDED = "ended"
_HIDDEN = "***"
_MOST_REPR_CHARS = 200
# As for jobs that are created here. Far fewer than a stack takes, wherever in it the payload is looked through.
_MOST_LEVELS = 100
# Parts of a message that tie it to a canvas: a retry of an adopted job must carry them again.
_CANVAS_HEADERS = ("root_id", "parent_id", "group", "group_index", "ignore_result", "stamped_headers", "stamps")
CANVAS_EMBED = ("callbacks", "errbacks", "chain", "chord")


@dataclass(frozen=True, kw_only=True)
class KnockMessage:
    """A knock as it goes over the wire."""

    job_id: UUID
    task_id: str
    queue_name: str
    priority: int
    headers: dict[str, Any]
    body: str


def knock_message(knock: Knock, *, redact: Sequence[str]) -> KnockMessage:
    """Write the message for a job."""
    job, envelope, job_id = knock.job, knock.envelope or {}, str(knock.job.id)
    task_id = envelope.get("task_id") or job_id
    headers = {
        "lang": "py",
        "task": job.job_type,
        "id": task_id,
        "root_id": task_id,
        "retries": job.retry_count,
        "timelimit": [None, None],
        "argsrepr": repr((job_id,)),  # for who looks: the message itself has no arguments
        "kwargsrepr": summary(job, redact),
        "origin": anon_nodename(),
        **(envelope.get("headers") or {}),
        HEADER: {"kind": _KNOCK, "job_id": job_id},
    }
    if job.status is JobStatus.FAILED:
        headers[HEADER][_ENDED] = True
    return KnockMessage(
        job_id=job.id,
        task_id=task_id,
        queue_name=job.queue_name,
        priority=job.priority,
        headers=headers,
        body=_body(envelope["embed"]) if envelope.get("embed") else _PLAIN_BODY,
    )


def _body(embed: Mapping[str, Any]) -> str:
    # Without arguments, whatever the job's are.
    return json.dumps([[], {}, {part: embed.get(part) for part in CANVAS_EMBED}])


_PLAIN_BODY = _body({})


def knocked_job_id(headers: Mapping[str, Any]) -> UUID | None:
    """Return the job that a message knocks for, or None where it is a plain Celery client's."""
    ours = headers.get(HEADER)
    if not isinstance(ours, dict) or ours.get("kind") != _KNOCK:
        return None
    try:
        return UUID(str(ours.get("job_id")))
    except ValueError:
        return None


def announces_end(headers: Mapping[str, Any]) -> bool:
    """Whether a message was sent to tell of a job that was cancelled."""
    return knocked_job_id(headers) is not None and bool(headers[HEADER].get(_ENDED))


def summary(job: Job, redact: Sequence[str]) -> str:
    """Return what Celery's events show of a job: its payload, shortened, without what must not be seen."""
    shown = repr(_without_secrets(job.payload, _secret_keys(tuple(redact))))
    return shown if len(shown) <= _MOST_REPR_CHARS else f"{shown[:_MOST_REPR_CHARS]}..."


@lru_cache(maxsize=16)
def _secret_keys(redact: tuple[str, ...]) -> re.Pattern[str]:
    # Without any word: what is found nowhere.
    return re.compile("|".join(re.escape(word.lower()) for word in redact) or "(?!)")


def _without_secrets(value: Any, secret: re.Pattern[str]) -> Any:
    if isinstance(value, dict):
        return {
            key: _HIDDEN if secret.search(key.lower()) else _without_secrets(item, secret)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_without_secrets(item, secret) for item in value]
    return value


def adopted_job_id(task_id: str) -> UUID:
    """Return the job id of a plain Celery client's task id: the same, or derived where it is no UUID."""
    try:
        return UUID(task_id)
    except ValueError:
        return uuid5(NAMESPACE_URL, f"celery-task:{task_id}")


def adopted_payload(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the payload of a plain call: one dict is merged under the kwargs, other arguments become ``args``.

    Raises ValueError where it is nested too deeply.
    """
    if len(args) == 1 and isinstance(args[0], dict):
        payload = {**args[0], **kwargs}
    else:
        payload = {**kwargs, "args": list(args)} if args else dict(kwargs)
    return {str(key): _as_json(value, _MOST_LEVELS) for key, value in payload.items()}


def _as_json(value: Any, levels: int) -> Any:
    # Celery's JSON carries dates, UUIDs and decimals, which come back as such: a payload has them as text.
    if levels < 0:
        raise ValueError(f"the arguments are nested too deeply: at most {_MOST_LEVELS} levels")
    if isinstance(value, dict):
        return {str(key): _as_json(item, levels - 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_as_json(item, levels - 1) for item in value]
    if value is None or isinstance(value, str | int | bool) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return value.isoformat() if isinstance(value, date | time) else str(value)


def envelope_of(task_id: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must go with every later knock of an adopted job, as JSON in which Celery finds dates again.

    Raises TypeError, ValueError or RecursionError where it is none.
    """
    envelope = {
        "task_id": task_id,
        "headers": {name: request[name] for name in _CANVAS_HEADERS if request.get(name) is not None},
        "embed": {part: request[part] for part in CANVAS_EMBED if request.get(part)},
    }
    as_celery_sends_it: dict[str, Any] = json.loads(kombu_json.dumps(envelope))
    return as_celery_sends_it
