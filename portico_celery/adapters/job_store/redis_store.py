"""The job store in Redis: each transition is one call of a Lua script, which nothing can come between.

The scripts, in lua/, say what portico_celery.lifecycle says in Python; the conformance suite holds them to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from portico_celery import lifecycle
from portico_celery.adapters.job_store import redis_scripts
from portico_celery.adapters.job_store.redis_client import (
    checked,
    make_client,
    pipelined,
    shown,
    translated_errors,
    warn_of_losses,
)
from portico_celery.adapters.job_store.redis_rows import (
    Row,
    claim_request,
    claimed_of,
    envelope_of,
    fields_of,
    finish_request,
    job_of,
    record_of,
    row_of,
)
from portico_celery.adapters.job_store.redis_scripts import Request
from portico_celery.adapters.job_store.sql_rows import seconds_to_micros
from portico_celery.exceptions import StoreSchemaTooNew, ValidationError
from portico_celery.ports.job import Job, JobStatus, QueueStats
from portico_celery.ports.job_reader import JobFilter, JobPage, JobRecord
from portico_celery.ports.job_store import (
    DEFAULT_RESULT_TTL,
    Claim,
    ClaimedJob,
    DueWork,
    Finish,
    JobStore,
    Knock,
    Lease,
)

SCHEMA_VERSION = 1

# A sweep deletes this many at once, and comes again at once where there are more; a page looks at this many jobs in
# one call. Redis does one thing at a time: nobody shall wait for more than a few milliseconds.
_MOST_DELETED = 200
_MOST_LOOKED_AT = 2_000
# Of a place in the order of creation: Lua's numbers hold all integers of so many digits exactly.
_MOST_DIGITS = 15


class RedisJobStore(JobStore):
    """Keeps jobs in Redis. ``result_ttl`` is for how many seconds a job is kept once it has ended.

    All keys begin with ``{prefix}``. ``clock_offset`` (seconds) shifts the store's clock; only tests set it.
    """

    def __init__(self, url: str, *, result_ttl: float = DEFAULT_RESULT_TTL, prefix: str = "portico") -> None:
        self._client = make_client(url)
        self._shown_url = shown(url)
        self._result_ttl = result_ttl
        self._tag = f"{{{prefix}}}"
        self._initialized = False
        self.clock_offset = 0.0

    def initialize(self) -> None:
        """Note the version of the keys' layout, and warn of settings by which the server may lose jobs. Idempotent."""
        # Without a lock: two threads that come at once do the same twice, and neither waits for the other's time-out.
        if self._initialized:
            return
        with translated_errors(self._shown_url):
            self._check_version()
            warn_of_losses(self._client, self._shown_url)
        self._initialized = True

    def _check_version(self) -> None:
        key = f"{self._tag}:schema"
        [version] = checked(pipelined(self._client, [("GET", key)]))
        if version is None:
            # Not at once: a Redis that is full would refuse it, and we could read nothing.
            _, version = checked(pipelined(self._client, [("SETNX", key, SCHEMA_VERSION), ("GET", key)]))
        if int(version) > SCHEMA_VERSION:
            raise StoreSchemaTooNew(
                f"the job store has schema version {version}, and this portico_celery knows up to {SCHEMA_VERSION}: "
                "upgrade portico_celery here, or use another database or prefix"
            )

    def close(self) -> None:
        """Release connections. Idempotent."""
        self._client.close()

    def _run(self, script: str, request: Request) -> Any:
        return self._run_all(script, [request])[0]

    def _run_all(self, script: str, requests: Sequence[Request]) -> list[Any]:
        if not requests:
            return []
        self.initialize()
        offset = seconds_to_micros(self.clock_offset)
        with translated_errors(self._shown_url):
            return redis_scripts.run(self._client, script, self._tag, offset, requests)

    def insert(self, jobs: Sequence[Job], *, knock_seconds: float) -> list[tuple[Job, bool]]:
        """Store all jobs whose id is new, in one call of the script."""
        if not jobs:
            return []
        fields = [fields_of(job) for job in jobs]
        answers = self._run("insert", {"jobs": fields, "knock": seconds_to_micros(knock_seconds)})
        return [_inserted(row, answer) for row, answer in zip(fields, answers, strict=True)]

    def claim(self, claims: Sequence[Claim]) -> list[ClaimedJob | None]:
        """Take each job that may start now."""
        answers = self._run_all("claim", [claim_request(claim) for claim in claims])
        return [None if answer is None else claimed_of(row_of(answer)) for answer in answers]

    def finish(self, finishes: Sequence[Finish]) -> list[Job | None]:
        """End attempts."""
        answers = self._run_all("finish", [finish_request(finish) for finish in finishes])
        return [None if answer is None else job_of(row_of(answer)) for answer in answers]

    def settle_loss(self, lease: Lease) -> None:
        """Note that the handler has heard of the loss."""
        self._run("settle_loss", _lease_request(lease))

    def extend(self, leases: Sequence[Lease], *, lease_seconds: float) -> list[bool]:
        """Renew leases."""
        duration = seconds_to_micros(lease_seconds)
        answers = self._run_all("extend", [{**_lease_request(lease), "lease": duration} for lease in leases])
        return [answer == 1 for answer in answers]

    def take_due(self, *, limit: int, knock_seconds: float) -> DueWork:
        """Find what is due, and delete some of what ended too long ago."""
        request = {
            "limit": limit,
            "knock": seconds_to_micros(knock_seconds),
            "longest_knock": seconds_to_micros(lifecycle.MAX_KNOCK_SECONDS),
            "most_doublings": lifecycle.MAX_KNOCK_DOUBLINGS,
            "keep": seconds_to_micros(self._result_ttl),
            "most_deleted": _MOST_DELETED,
        }
        knocked, expired, next_due_in = self._run("take_due", request)
        rows = [row_of(row) for row in knocked]
        return DueWork(
            knocks=tuple(
                Knock(job=job_of(row), envelope=envelope_of(row), again=int(row["knocks"]) > 1) for row in rows
            ),
            expired=tuple(claimed_of(row_of(row)) for row in expired),
            next_due_in=None if next_due_in is None else next_due_in / 1_000_000,
        )

    def count_pending(self, queue_name: str) -> int:
        """Count the PENDING jobs of a queue."""
        return int(self._hash(f"counts:{queue_name}").get(JobStatus.PENDING.value, 0))

    def cancel(self, job_id: UUID) -> bool:
        """Cancel a job that has not started or waits for a retry."""
        answer = self._run("cancel", {"id": str(job_id), "message": lifecycle.CANCELLED_MESSAGE})
        return bool(answer)

    def requeue(self, job_id: UUID, *, knock_seconds: float) -> Job | None:
        """Start a FAILED or DEAD_LETTER job afresh."""
        answer = self._run("requeue", {"id": str(job_id), "knock": seconds_to_micros(knock_seconds)})
        return None if answer is None else job_of(row_of(answer))

    def discard(self, job_id: UUID) -> bool:
        """Delete a job that has ended, with its history."""
        answer = self._run("discard", {"id": str(job_id)})
        return bool(answer)

    def holder(self, job_id: UUID) -> ClaimedJob | None:
        """Return a RUNNING job with the attempt that holds it."""
        row = self._hash(f"job:{job_id}")
        return claimed_of(row) if row and row["status"] == JobStatus.RUNNING else None

    def get(self, job_id: UUID) -> JobRecord | None:
        """Return the job with its result and history."""
        reply, history = self._run("get", {"id": str(job_id)})
        row = row_of(reply)
        return record_of(row, history) if row else None

    def _hash(self, name: str) -> dict[str, str]:
        self.initialize()
        with translated_errors(self._shown_url):
            [fields] = checked(pipelined(self._client, [("HGETALL", f"{self._tag}:{name}")]))
        return dict(fields)

    def list_jobs(self, job_filter: JobFilter) -> JobPage:
        """Return one page of jobs, the newest first."""
        before = "+inf" if job_filter.cursor is None else f"({_position(job_filter.cursor)}"
        rows: list[Row] = []
        ended = False
        while len(rows) <= job_filter.limit and not ended:
            request = {
                "wanted": _wanted(job_filter),
                "before": before,
                "limit": job_filter.limit + 1 - len(rows),
                "most": _MOST_LOOKED_AT,
            }
            found, before, ended = self._run("list_jobs", request)
            rows += map(row_of, found)
        page, more = rows[: job_filter.limit], len(rows) > job_filter.limit
        return JobPage(
            jobs=tuple(job_of(row) for row in page),
            next_cursor=page[-1]["sequence"] if more else None,
        )

    def stats(self, queue_name: str) -> QueueStats:
        """Count the jobs of a queue by state."""
        counts = self._hash(f"counts:{queue_name}")
        return lifecycle.queue_stats(queue_name, {JobStatus(status): int(count) for status, count in counts.items()})


def _inserted(fields: Row, answer: int | str) -> tuple[Job, bool]:
    if isinstance(answer, str):
        return job_of(row_of(answer)), False
    ahead = int(fields.get("scheduled_at", 0)) > answer
    status = JobStatus.SCHEDULED if ahead else JobStatus.PENDING
    return job_of({**fields, "status": status, "created_at": str(answer)}), True


def _lease_request(lease: Lease) -> dict[str, Any]:
    return {"id": str(lease.job_id), "attempt": lease.attempt}


def _wanted(job_filter: JobFilter) -> dict[str, str]:
    status = None if job_filter.status is None else job_filter.status.value
    wanted = {"queue": job_filter.queue_name, "type": job_filter.job_type, "status": status}
    return {kind: value for kind, value in wanted.items() if value is not None}


def _position(cursor: str) -> int:
    # isdecimal alone would let pass the digits of other scripts.
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= _MOST_DIGITS):
        raise ValidationError("cursor is not one that an earlier page returned as next_cursor")
    return int(cursor)
