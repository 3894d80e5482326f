"""A task message as it was delivered, and the claim that it stands for: a knock's, or a plain Celery client's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from celery.utils.time import maybe_iso8601
from kombu import Message

from portico_celery.adapters.celery import knock
from portico_celery.adapters.celery.origin import ORIGIN, origin_of
from portico_celery.adapters.celery.task_message import fault_of
from portico_celery.exceptions import PorticoError
from portico_celery.ports.job import Job
from portico_celery.ports.job_store import Claim


class UnreadableMessage(PorticoError):
    """A message that is no task message, or of which no job can be made; it says why."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A message as Celery delivered it to a generated task."""

    job_type: str
    task_id: str
    worker_name: str
    request: Mapping[str, Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def knocked_job_id(self) -> UUID | None:
        """The job that the message knocks for; None for a plain Celery client's message."""
        return knock.knocked_job_id(self.request.get("headers") or {})

    @property
    def comes_again(self) -> bool:
        """Whether the sweep would send another message, should this one be lost: not where the job may have ended."""
        headers = self.request.get("headers") or {}
        redelivered = (self.request.get("delivery_info") or {}).get("redelivered")
        return self.knocked_job_id is not None and not redelivered and not knock.announces_end(headers)


def claim_of(delivery: Delivery, *, worker: str, lease_seconds: float) -> Claim:
    """Return the claim of the job that a message is about; a plain Celery client's is adopted by it.

    Raises UnreadableMessage where no job can be made of it, whatever is wrong.
    """
    job_id = delivery.knocked_job_id
    if job_id is not None:
        return Claim(job_id=job_id, worker=worker, lease_seconds=lease_seconds)
    try:
        job = _adopted_job(delivery)
        envelope = knock.envelope_of(delivery.task_id, delivery.request)
    except Exception as error:
        raise UnreadableMessage(f"no job can be made of it: {error!r}") from error
    return Claim(job_id=job.id, worker=worker, lease_seconds=lease_seconds, adopt=job, envelope=envelope)


def _adopted_job(delivery: Delivery) -> Job:
    delivered = delivery.request.get("delivery_info") or {}
    # A task that is called in the process itself has no origin.
    origin = delivered.get(ORIGIN) or {}
    return Job(
        id=knock.adopted_job_id(delivery.task_id),
        queue_name=str(origin.get("queue") or delivered.get("routing_key") or "default"),
        job_type=delivery.job_type,
        payload=knock.adopted_payload(delivery.args, delivery.kwargs),
        priority=origin.get("priority") or 0,
    )


def fault_as_job(message: Message) -> str | None:
    """Say why no job can be made of a plain Celery client's message; None where one can."""
    try:
        claim_of(read_delivery(message, worker_name=""), worker="", lease_seconds=0)
    except UnreadableMessage as error:
        return str(error)
    return None


def read_delivery(message: Message, *, worker_name: str) -> Delivery:
    """Read a message that no Celery worker has read before. Raises UnreadableMessage, whatever is wrong."""
    try:
        return _read(message, worker_name)
    except UnreadableMessage:
        raise
    except Exception as error:
        raise UnreadableMessage(f"it can't be read: {error!r}") from error


def _read(message: Message, worker_name: str) -> Delivery:
    fault = fault_of(message)
    if fault is not None:
        raise UnreadableMessage(fault)
    errors: Any = message.errors
    if errors:
        raise UnreadableMessage(f"the body can't be decompressed: {errors[0][1]!r}")
    try:
        body: Any = message.payload
    except Exception as error:
        raise UnreadableMessage(f"the body can't be decoded: {error!r}") from error
    headers, (args, kwargs, embed) = _task_of(dict(message.headers or {}), body)
    task, task_id = headers.get("task"), headers.get("id")
    if not isinstance(task, str) or not task or not isinstance(task_id, str) or not task_id:
        raise UnreadableMessage(f"invalid task message: task {task!r}, id {task_id!r}")
    for name in ("eta", "expires"):
        time_of(headers, name)
    return Delivery(
        job_type=task,
        task_id=task_id,
        worker_name=worker_name,
        request={**headers, **(embed or {}), "headers": headers, "delivery_info": {ORIGIN: origin_of(message)}},
        args=tuple(args),
        kwargs=kwargs,
    )


def _task_of(headers: dict[str, Any], body: Any) -> tuple[dict[str, Any], tuple[Any, Any, Any]]:
    if "task" in headers and isinstance(body, list | tuple):
        arguments, keywords, embed = body
        return headers, (arguments, keywords, embed)
    # Celery's protocol 1 has it all in the body.
    if not isinstance(body, Mapping) or "task" not in {**body, **headers}:
        raise UnreadableMessage("not a Celery task message")
    arguments, keywords = body.get("args") or (), body.get("kwargs") or {}
    if not isinstance(arguments, list | tuple) or not isinstance(keywords, Mapping):
        raise UnreadableMessage("invalid task message: the arguments are no list, or the keyword arguments no mapping")
    return {**body, **headers}, (arguments, keywords, {})


def time_of(headers: Mapping[str, Any], name: str) -> datetime | None:
    """Return the time of a header, ``eta`` or ``expires``. Raises UnreadableMessage."""
    value = headers.get(name)
    if value is None:
        return None
    try:
        moment: Any = maybe_iso8601(value)
        in_utc: datetime = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise UnreadableMessage(f"invalid task message: the {name} is no time: {value!r}") from error
    return in_utc
