"""The job store in Redis: each transition is one call of a Lua script, which nothing can come between.

The scripts, in lua/, say what portico_celery.lifecycle says in Python; the conformance suite holds them to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from portico_celery import lifecycle
from portico_celery.adapters.job_store.paging import first_page
from portico_celery.adapters.job_store.redis_database import RedisDatabase
from portico_celery.adapters.job_store.redis_requests import (
    claim_request,
    due_request,
    fields_of,
    filter_request,
    finish_request,
    lease_request,
    postponement_request,
)
from portico_celery.adapters.job_store.redis_rows import (
    Row,
    claimed_of,
    inserted,
    job_of,
    knock_of,
    record_of,
    row_of,
)
from portico_celery.adapters.job_store.redis_schedules import RedisScheduleStore
from portico_celery.adapters.job_store.redis_scripts import Request
from portico_celery.adapters.job_store.stored_values import moment_of, seconds_to_micros
from portico_celery.ports.job import Job, JobStatus, QueueStats
from portico_celery.ports.job_reader import JobFilter, JobPage, JobRecord
from portico_celery.ports.job_store import (
    DEFAULT_RESULT_TTL,
    Claim,
    ClaimedJob,
    DueWork,
    Finish,
    JobStore,
    Lease,
    Postponement,
    Requeued,
)

# This many jobs are looked at in one call for those that a filter means. Redis does one thing at a time: nobody shall
# wait longer than some milliseconds.
_MOST_LOOKED_AT = 500
# Among the counts of a queue by status: how many of its jobs wait and have been knocked for.
_KNOCKED = "knocked"


class RedisJobStore(JobStore):
    """Keeps jobs in Redis. ``result_ttl`` is for how many seconds a job is kept once it has ended.

    All keys begin with ``{prefix}``. ``clock_offset`` (seconds) shifts the store's clock; only tests set it.
    """

    def __init__(
        self,
        url: str,
        *,
        result_ttl: float = DEFAULT_RESULT_TTL,
        prefix: str = "portico",
        allow_newer_schema: bool = False,
    ) -> None:
        self._database = RedisDatabase(url, prefix=prefix, allow_newer_schema=allow_newer_schema)
        self._result_ttl = result_ttl
        self.clock_offset = 0.0

    def initialize(self) -> None:
        """Note the version of the keys' layout, and warn of settings by which the server may lose jobs. Idempotent."""
        self._database.prepare()

    def close(self) -> None:
        """Release connections. Idempotent."""
        self._database.close()

    def clock(self) -> datetime:
        """Return the server's time."""
        return moment_of(self._run("clock", {}))

    def _run(self, script: str, request: Request) -> Any:
        return self._run_all(script, [request])[0]

    def _run_all(self, script: str, requests: Sequence[Request]) -> list[Any]:
        return self._database.run(script, requests, clock_offset=seconds_to_micros(self.clock_offset))

    def schedules(self) -> RedisScheduleStore:
        """Return the schedules of the same server."""
        return RedisScheduleStore(clock=self.clock, run=self._run_all, send=self._database.send, tag=self._database.tag)

    def insert(self, jobs: Sequence[Job], *, knock_seconds: float) -> list[tuple[Job, bool]]:
        """Store all jobs whose id is new, in one call of the script."""
        if not jobs:
            return []
        fields = [fields_of(job) for job in jobs]
        answers = self._run("insert", {"jobs": fields, "knock": seconds_to_micros(knock_seconds)})
        return [inserted(job, answer) for job, answer in zip(jobs, answers, strict=True)]

    def claim(self, claims: Sequence[Claim]) -> list[ClaimedJob | None]:
        """Take each job that may start now."""
        answers = self._run_all("claim", [claim_request(claim) for claim in claims])
        return [None if answer is None else claimed_of(row_of(answer)) for answer in answers]

    def finish(self, finishes: Sequence[Finish]) -> list[Job | None]:
        """End attempts."""
        answers = self._run_all("finish", [finish_request(finish) for finish in finishes])
        return [None if answer is None else job_of(row_of(answer)) for answer in answers]

    def postpone(self, postponements: Sequence[Postponement]) -> list[Job | None]:
        """Put back jobs that a worker has no handler for."""
        answers = self._run_all("postpone", [postponement_request(postponement) for postponement in postponements])
        return [None if answer is None else job_of(row_of(answer)) for answer in answers]

    def settle_loss(self, lease: Lease) -> None:
        """Note that the handler has heard of the loss."""
        self._run("settle_loss", lease_request(lease))

    def extend(self, leases: Sequence[Lease], *, lease_seconds: float) -> list[bool]:
        """Renew leases."""
        duration = seconds_to_micros(lease_seconds)
        answers = self._run_all("extend", [{**lease_request(lease), "lease": duration} for lease in leases])
        return [answer == 1 for answer in answers]

    def take_due(self, *, limit: int, knock_seconds: float) -> DueWork:
        """Find what is due, and delete some of what ended too long ago."""
        request = due_request(limit=limit, knock_seconds=knock_seconds, keep_seconds=self._result_ttl)
        knocked, expired, next_due_in = self._run("take_due", request)
        return DueWork(
            knocks=tuple(knock_of(row_of(row)) for row in knocked),
            expired=tuple(claimed_of(row_of(row)) for row in expired),
            next_due_in=None if next_due_in is None else next_due_in / 1_000_000,
        )

    def count_knocked(self, queue_name: str) -> int:
        """Count the jobs of a queue that wait and have been knocked for."""
        return int(self._hash(f"counts:{queue_name}").get(_KNOCKED, 0))

    def cancel(self, job_id: UUID, *, running: bool = False) -> bool:
        """Cancel a job that has not started or waits for a retry, or, with ``running``, that runs."""
        request = {"id": str(job_id), "running": running, "message": lifecycle.CANCELLED_MESSAGE}
        return bool(self._run("cancel", request))

    def requeue(self, job_filter: JobFilter, *, knock_seconds: float) -> Requeued:
        """Start FAILED and DEAD_LETTER jobs afresh, in one call of the script."""
        rows, next_cursor = self._walk("requeue", job_filter, knock=seconds_to_micros(knock_seconds))
        return Requeued(knocks=tuple(knock_of(row) for row in rows), next_cursor=next_cursor)

    def discard(self, job_filter: JobFilter) -> JobPage:
        """Delete jobs that have ended, with their history, in one call of the script."""
        rows, next_cursor = self._walk("discard", job_filter)
        return JobPage(jobs=tuple(job_of(row) for row in rows), next_cursor=next_cursor)

    def _walk(self, script: str, job_filter: JobFilter, **further: int) -> tuple[list[Row], str | None]:
        request = {**filter_request(job_filter), "most": _MOST_LOOKED_AT, **further}
        rows, place, ended = self._run(script, request)
        return [row_of(row) for row in rows], None if ended else str(place)

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
        [fields] = self._database.send([("HGETALL", f"{self._database.tag}:{name}")])
        return dict(fields)

    def list_jobs(self, job_filter: JobFilter) -> JobPage:
        """Return one page of jobs, the newest first."""
        # A call looks at so many jobs only: a page is full, or the last, all the same.
        rows, cursor = self._walk("list_jobs", job_filter, limit=job_filter.limit + 1)
        while len(rows) <= job_filter.limit and cursor is not None:
            missing = job_filter.limit + 1 - len(rows)
            found, cursor = self._walk("list_jobs", replace(job_filter, cursor=cursor), limit=missing)
            rows += found
        page, next_cursor = first_page(rows, job_filter.limit, cursor_of=lambda row: row["sequence"])
        return JobPage(jobs=tuple(job_of(row) for row in page), next_cursor=next_cursor)

    def stats(self, queue_name: str, *, created_by: UUID | None = None) -> QueueStats:
        """Count the jobs of a queue by state: all of them, or those that one caller has created."""
        owner = "" if created_by is None else f"-of:{created_by}"
        counts = self._hash(f"counts{owner}:{queue_name}")
        counts.pop(_KNOCKED, None)
        return lifecycle.queue_stats(queue_name, {JobStatus(status): int(count) for status, count in counts.items()})

    def oldest_due_seconds(self) -> float:
        """Return for how many seconds the job that is due longest has waited past its time; 0 where none is due."""
        return int(self._run("oldest_due", {})) / 1_000_000
