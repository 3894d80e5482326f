"""What is remembered of schedules, in SQL, beside the jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from sqlalchemy import Case, ColumnElement, Connection, Delete, Row, Update, case, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from portico_celery.adapters.job_store.sql_schema import SCHEDULES
from portico_celery.adapters.job_store.stored_values import micros, moment_of
from portico_celery.ports.schedule_store import FirstSight, JobNote, ScheduleState, ScheduleStore, Settlement

# A statement of SQLite's takes no more than some ten thousand parameters.
_MOST_AT_ONCE = 1_000

_columns = SCHEDULES.c


class SqlScheduleStore(ScheduleStore):
    """Shares the job store's connections, and its clock."""

    def __init__(
        self,
        *,
        transaction: Callable[[], AbstractContextManager[Connection]],
        single_statement: Callable[[], AbstractContextManager[Connection]],
        now: Callable[[], ColumnElement[int]],
        dialect: str,
    ) -> None:
        self._transaction = transaction
        self._single_statement = single_statement
        self._now = now
        self._insert = postgresql.insert if dialect == "postgresql" else sqlite.insert

    def clock(self) -> datetime:
        """Return the database's time."""
        with self._single_statement() as connection:
            return moment_of(connection.execute(select(self._now())).scalar_one())

    def begin(self, sights: Sequence[FirstSight]) -> None:
        """Insert the schedules that are new."""
        # In one order everywhere, so that two beats can't wait for each other's rows.
        rows = [
            {"name": sight.name, "settled_until": micros(sight.settled_until)}
            for sight in sorted(sights, key=lambda sight: sight.name)
        ]
        statement = self._insert(SCHEDULES).on_conflict_do_nothing(index_elements=[_columns.name])
        with self._transaction() as connection:
            for first in range(0, len(rows), _MOST_AT_ONCE):
                connection.execute(statement, rows[first : first + _MOST_AT_ONCE])

    def read(self, names: Sequence[str]) -> dict[str, ScheduleState]:
        """Return what is remembered, by name."""
        states: dict[str, ScheduleState] = {}
        # Not in one transaction: SQLite's would keep out whoever writes.
        with self._single_statement() as connection:
            for first in range(0, len(names), _MOST_AT_ONCE):
                wanted = select(SCHEDULES).where(_columns.name.in_(names[first : first + _MOST_AT_ONCE]))
                states |= {row.name: _state_of(row) for row in connection.execute(wanted)}
        return states

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Settle fire times, all in one transaction."""
        effective: dict[int, bool] = {}
        with self._transaction() as connection:
            for place in sorted(range(len(settlements)), key=lambda place: settlements[place].name):
                effective[place] = self._settle(connection, settlements[place])
        return [effective[place] for place in range(len(settlements))]

    def _settle(self, connection: Connection, settlement: Settlement) -> bool:
        last_job = {} if settlement.job_id is None else {"last_job_id": settlement.job_id}
        row = update(SCHEDULES).where(_columns.name == settlement.name)
        settled = connection.execute(
            row.where(
                _columns.settled_until == micros(settlement.seen),
                _columns.owed_until.is_not_distinct_from(_micros(settlement.seen_owed_until)),
            ).values(
                settled_until=micros(settlement.settled_until),
                owed_until=_micros(settlement.owed_until),
                created=_columns.created + settlement.created,
                missed=_columns.missed + settlement.missed,
                skipped=_columns.skipped + settlement.skipped,
                **last_job,
            )
        )
        if settlement.fire is not None:
            fire = micros(settlement.fire)
            connection.execute(row.where(_is_older(_columns.last_fire, fire)).values(last_fire=fire, **last_job))
        return settled.rowcount == 1

    def note(self, note: JobNote) -> None:
        """Remember the job as the last one."""
        values: dict[str, Any] = {"last_job_id": note.job_id, "created": _columns.created + note.created}
        if note.fire is not None:
            fire = micros(note.fire)
            values["last_fire"] = case((_is_older(_columns.last_fire, fire), fire), else_=_columns.last_fire)
        self._change(update(SCHEDULES).where(_columns.name == note.name).values(**values))

    def pause(self, name: str) -> bool:
        """Let a schedule make no jobs from now on."""
        active = update(SCHEDULES).where(_columns.name == name, _columns.paused_at.is_(None))
        return self._change(active.values(paused_at=self._now()))

    def resume(self, name: str, paused_at: datetime) -> bool:
        """Let it make jobs again, from now on."""
        paused = update(SCHEDULES).where(_columns.name == name, _columns.paused_at == micros(paused_at))
        return self._change(
            paused.values(paused_at=None, owed_until=None, settled_until=_later(_columns.settled_until, self._now()))
        )

    def forget(self, name: str) -> bool:
        """Forget a schedule."""
        return self._change(delete(SCHEDULES).where(_columns.name == name))

    def restart(self, name: str) -> bool:
        """Let its fire times count from now on."""
        now = self._now()
        last_fire = case((_columns.last_fire > now, now), else_=_columns.last_fire)
        row = update(SCHEDULES).where(_columns.name == name)
        return self._change(row.values(settled_until=now, owed_until=None, last_fire=last_fire))

    def _change(self, statement: Update | Delete) -> bool:
        with self._transaction() as connection:
            return connection.execute(statement).rowcount == 1


def _is_older(last_fire: ColumnElement[Any], fire: int) -> ColumnElement[bool]:
    return last_fire.is_(None) | (last_fire < fire)


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else micros(moment)


def _later(one: ColumnElement[int], other: ColumnElement[int]) -> Case[int]:
    # PostgreSQL's GREATEST is SQLite's MAX.
    return case((one > other, one), else_=other)


def _state_of(row: Row[Any]) -> ScheduleState:
    return ScheduleState(
        name=row.name,
        settled_until=moment_of(row.settled_until),
        owed_until=_moment(row.owed_until),
        paused_at=_moment(row.paused_at),
        last_fire=_moment(row.last_fire),
        last_job_id=row.last_job_id,
        created=row.created,
        missed=row.missed,
        skipped=row.skipped,
    )


def _moment(value: int | None) -> datetime | None:
    return None if value is None else moment_of(value)
