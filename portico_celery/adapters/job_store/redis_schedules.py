"""What is remembered of schedules, in Redis: a hash for each, under the jobs' own hash tag."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from portico_celery.adapters.job_store.redis_scripts import Request
from portico_celery.adapters.job_store.stored_values import micros, moment_of
from portico_celery.ports.schedule_store import FirstSight, JobNote, ScheduleState, ScheduleStore, Settlement


class RedisScheduleStore(ScheduleStore):
    """``run`` runs a script once for each request; ``send`` sends plain commands, in which ``key`` names a hash."""

    def __init__(
        self,
        *,
        clock: Callable[[], datetime],
        run: Callable[[str, Sequence[Request]], list[Any]],
        send: Callable[[Sequence[Sequence[Any]]], list[Any]],
        tag: str,
    ) -> None:
        self._clock = clock
        self._run = run
        self._send = send
        self._prefix = f"{tag}:schedule:"

    def clock(self) -> datetime:
        """Return the server's time."""
        return self._clock()

    def begin(self, sights: Sequence[FirstSight]) -> None:
        """Remember the schedules that are new."""
        self._send(
            [("HSETNX", self._prefix + sight.name, "settled_until", micros(sight.settled_until)) for sight in sights]
        )

    def read(self, names: Sequence[str]) -> dict[str, ScheduleState]:
        """Return what is remembered, by name."""
        answers = self._send([("HGETALL", self._prefix + name) for name in names])
        return {name: _state_of(name, fields) for name, fields in zip(names, answers, strict=True) if fields}

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Settle fire times, each in one call of the script."""
        return [answer == 1 for answer in self._run("settle_schedule", [_request(item) for item in settlements])]

    def note(self, note: JobNote) -> None:
        """Remember the job as the last one."""
        request = {"name": note.name, "created": note.created, **_made(note.fire, note.job_id)}
        self._run("note_schedule_job", [request])

    def pause(self, name: str) -> bool:
        """Let a schedule make no jobs from now on."""
        return self._run("pause_schedule", [{"name": name}]) == [1]

    def resume(self, name: str, paused_at: datetime) -> bool:
        """Let it make jobs again, from now on."""
        return self._run("resume_schedule", [{"name": name, "paused_at": str(micros(paused_at))}]) == [1]

    def forget(self, name: str) -> bool:
        """Forget a schedule."""
        return self._send([("DEL", self._prefix + name)]) == [1]

    def restart(self, name: str) -> bool:
        """Let its fire times count from now on."""
        return self._run("restart_schedule", [{"name": name}]) == [1]


def _request(settlement: Settlement) -> Request:
    return {
        "name": settlement.name,
        **_moments(
            seen=settlement.seen,
            settled_until=settlement.settled_until,
            seen_owed_until=settlement.seen_owed_until,
            owed_until=settlement.owed_until,
        ),
        "created": settlement.created,
        "missed": settlement.missed,
        "skipped": settlement.skipped,
        **_made(settlement.fire, settlement.job_id),
    }


def _made(fire: datetime | None, job_id: UUID | None) -> Request:
    named = {} if job_id is None else {"job_id": str(job_id)}
    return {**named, **_moments(fire=fire)}


def _moments(**moments: datetime | None) -> Request:
    # As text: what Lua makes of large numbers is not for keeping.
    return {name: str(micros(moment)) for name, moment in moments.items() if moment is not None}


def _state_of(name: str, fields: Mapping[str, str]) -> ScheduleState:
    last_job_id = fields.get("last_job_id")
    return ScheduleState(
        name=name,
        settled_until=moment_of(int(fields["settled_until"])),
        owed_until=_moment(fields.get("owed_until")),
        paused_at=_moment(fields.get("paused_at")),
        last_fire=_moment(fields.get("last_fire")),
        last_job_id=None if last_job_id is None else UUID(last_job_id),
        created=int(fields.get("created", 0)),
        missed=int(fields.get("missed", 0)),
        skipped=int(fields.get("skipped", 0)),
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else moment_of(int(text))
