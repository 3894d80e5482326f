"""What the scripts of the Redis store are asked: JSON objects in which nothing is None."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico_celery import lifecycle
from portico_celery.adapters.job_store.paging import unknown_cursor
from portico_celery.adapters.job_store.stored_values import dumped, micros, seconds_to_micros, values_of
from portico_celery.ports.job import Job
from portico_celery.ports.job_reader import JobFilter
from portico_celery.ports.job_store import Claim, Finish, Lease, Postponement

# A sweep deletes this many at once, and comes again at once where there are more. Redis does one thing at a time:
# nobody shall wait longer than some milliseconds.
_MOST_DELETED = 200
# Of a place in the order of creation: Lua's numbers hold all integers of so many digits exactly.
_MOST_DIGITS = 15


def fields_of(job: Job) -> dict[str, str]:
    """Return the fields of a job that the caller decides; the rest is the store's."""
    return {name: str(value) for name, value in values_of(job).items() if value is not None}


def claim_request(claim: Claim) -> dict[str, Any]:
    """Return what the claim script is asked."""
    request: dict[str, Any] = {
        "id": str(claim.job_id),
        "worker": claim.worker,
        "token": claim.token,
        "lease": seconds_to_micros(claim.lease_seconds),
    }
    if claim.adopt is not None:
        envelope = dumped(claim.envelope)
        request["adopt"] = fields_of(claim.adopt) | ({} if envelope is None else {"envelope": envelope})
    return request


def finish_request(finish: Finish) -> dict[str, Any]:
    """Return what the finish script is asked."""
    transition = finish.transition
    optional = {
        "result_data": dumped(transition.result_data),
        "error_message": transition.error_message,
        "traceback": transition.traceback,
    }
    return {
        "id": str(finish.job_id),
        "attempt": finish.attempt,
        "expired_only": finish.expired_only,
        "status": transition.status.value,
        "retry_count": transition.retry_count,
        "delay": seconds_to_micros(transition.delay),
        "worker_lost": transition.worker_lost,
        **{name: value for name, value in optional.items() if value is not None},
    }


def postponement_request(postponement: Postponement) -> dict[str, Any]:
    """Return what the postpone script is asked."""
    job_type, patience = postponement.job_type, postponement.patience
    return {
        "id": str(postponement.job_id),
        "job_type": job_type,
        "patience": seconds_to_micros(patience),
        "shortest": seconds_to_micros(lifecycle.SHORTEST_POSTPONEMENT),
        "longest": seconds_to_micros(lifecycle.LONGEST_POSTPONEMENT),
        "no_handler": lifecycle.NO_HANDLER,
        "message": lifecycle.no_handler_message(job_type, postponement.worker),
        "last_message": lifecycle.unknown_type_message(job_type, patience),
    }


def lease_request(lease: Lease) -> dict[str, Any]:
    """Return what a script is asked about an attempt."""
    return {"id": str(lease.job_id), "attempt": lease.attempt}


def due_request(*, limit: int, knock_seconds: float, keep_seconds: float) -> dict[str, Any]:
    """Return what the sweep's script is asked."""
    return {
        "limit": limit,
        "knock": seconds_to_micros(knock_seconds),
        "longest_knock": seconds_to_micros(lifecycle.MAX_KNOCK_SECONDS),
        "most_doublings": lifecycle.MAX_KNOCK_DOUBLINGS,
        "keep": seconds_to_micros(keep_seconds),
        "most_deleted": _MOST_DELETED,
    }


def filter_request(job_filter: JobFilter) -> dict[str, Any]:
    """Return what a script that walks through jobs is asked. Raises ValidationError for a cursor that no page gave."""
    since, until, job_ids = job_filter.ended_since, job_filter.ended_until, job_filter.job_ids
    indexed = {
        "queue": job_filter.queue_name,
        "type": job_filter.job_type,
        "status": None if job_filter.status is None else job_filter.status.value,
        "creator": None if job_filter.created_by is None else str(job_filter.created_by),
    }
    request = {
        "wanted": _present(indexed),
        "error": job_filter.error_contains,
        "ended_since": None if since is None else micros(since),
        "ended_until": None if until is None else micros(until),
        "ids": None if job_ids is None else [str(job_id) for job_id in job_ids],
        "before": None if job_filter.cursor is None else _position(job_filter.cursor),
        "limit": job_filter.limit,
    }
    return _present(request)


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _position(cursor: str) -> int:
    # isdecimal alone would let pass the digits of other scripts.
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= _MOST_DIGITS):
        raise unknown_cursor()
    return int(cursor)
