"""Which rows a JobFilter means, a page at a time, the newest first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, func, select, tuple_

from portico_celery import lifecycle
from portico_celery.adapters.job_store.paging import first_page, unknown_cursor
from portico_celery.adapters.job_store.sql_schema import ENDED_AT, HAS_FAILED, JOBS
from portico_celery.adapters.job_store.stored_values import micros
from portico_celery.ports.job_reader import JobFilter

# What a BigInteger column holds.
_LARGEST_TIME = 2**63 - 1


def page_of(
    connection: Connection,
    job_filter: JobFilter,
    columns: Iterable[ColumnElement[Any]],
    conditions: Sequence[ColumnElement[bool]],
) -> tuple[Sequence[Row[Any]], str | None]:
    """Return these columns of one page of the rows that meet the conditions, and where the next page begins."""
    statement = (
        select(*columns)
        .where(*conditions)
        .order_by(JOBS.c.created_at.desc(), JOBS.c.id.desc())
        .limit(job_filter.limit + 1)
    )
    return first_page(connection.execute(statement).all(), job_filter.limit, cursor_of=_cursor)


def conditions_of(connection: Connection, job_filter: JobFilter) -> list[ColumnElement[bool]]:
    """Return what the rows of a filter meet. Raises ValidationError for a cursor that no page gave."""
    conditions: list[ColumnElement[bool]] = []
    if job_filter.queue_name is not None:
        conditions.append(JOBS.c.queue_name == job_filter.queue_name)
    if job_filter.job_type is not None:
        conditions.append(JOBS.c.job_type == job_filter.job_type)
    if job_filter.status is not None:
        conditions.append(JOBS.c.status == job_filter.status.value)
        if job_filter.status in lifecycle.REQUEUABLE:
            conditions.append(HAS_FAILED)
    if job_filter.created_by is not None:
        conditions.append(JOBS.c.created_by == job_filter.created_by)
    if job_filter.job_ids is not None:
        conditions.append(JOBS.c.id.in_(job_filter.job_ids))
    if job_filter.error_contains is not None:
        # Not LIKE, which would take capitals for small letters in SQLite, and % for anything.
        place = func.instr if connection.dialect.name == "sqlite" else func.strpos
        conditions.append(place(JOBS.c.error_message, job_filter.error_contains) > 0)
    if job_filter.ended_since is not None:
        conditions.append(micros(job_filter.ended_since) <= ENDED_AT)
    if job_filter.ended_until is not None:
        conditions.append(micros(job_filter.ended_until) > ENDED_AT)
    if job_filter.cursor is not None:
        created_at, job_id = _position(job_filter.cursor)
        conditions.append(tuple_(JOBS.c.created_at, JOBS.c.id) < tuple_(created_at, job_id))
    return conditions


def _cursor(row: Row[Any]) -> str:
    return f"{row.created_at}-{row.id.hex}"


def _position(cursor: str) -> tuple[int, UUID]:
    created_at, _, job_id = cursor.partition("-")
    try:
        position = int(created_at), UUID(job_id)
    except ValueError:
        raise unknown_cursor() from None
    if position[0] > _LARGEST_TIME:
        raise unknown_cursor()
    return position
