"""Registering handlers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from portico_celery.exceptions import ConfigurationError, DuplicateHandler, UnknownJobType, ValidationError
from portico_celery.kits.job import HandlerRegistry, JobType
from portico_celery.ports.job import Job, JobResult
from portico_celery.ports.job_handler import JobHandler


class SendEmail(JobHandler):
    @property
    def job_type(self) -> str:
        return "email.send"

    async def handle(self, _job: Job) -> JobResult:
        return JobResult(success=True)

    async def on_failure(self, job: Job, error: Exception) -> None: ...


class Shaped:
    """A handler that knows nothing of our classes."""

    def __init__(self, job_type: Any = "report.daily") -> None:
        self.job_type = job_type

    async def handle(self, _job: object) -> object:
        return None

    async def on_failure(self, _job: object, _error: object) -> None: ...


class AsyncCall:
    async def __call__(self, *_arguments: object) -> None: ...


def test_a_registered_handler_is_found_by_its_type() -> None:
    registry, handler = HandlerRegistry(), SendEmail()
    registered = registry.register(handler, queue="mail", time_limit=5)
    assert registered == JobType(name="email.send", handler=handler, queue_name="mail", time_limit=5)
    assert registry.get("email.send") is registered


def test_a_handler_is_taken_by_its_shape() -> None:
    registry, handler = HandlerRegistry(), Shaped()
    registered: object = registry.register(handler).handler
    assert registered is handler


def test_methods_may_be_asynchronous_callables() -> None:
    handler = Shaped()
    vars(handler)["handle"] = AsyncCall()
    assert HandlerRegistry().register(handler).name == "report.daily"


def test_a_second_handler_for_a_type_is_refused_and_the_first_one_stays() -> None:
    registry, first = HandlerRegistry(), SendEmail()
    registry.register(first)
    with pytest.raises(DuplicateHandler, match=r"email\.send.*SendEmail"):
        registry.register(Shaped("email.send"))
    assert registry.get("email.send").handler is first


def test_the_class_in_place_of_an_instance_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"register an instance, not the class: SendEmail\(\.\.\.\)"):
        HandlerRegistry().register(SendEmail)


@pytest.mark.parametrize("missing", ["handle", "on_failure", "job_type"])
def test_a_handler_that_lacks_something_is_told_what(missing: str) -> None:
    members: dict[str, Any] = {"job_type": "email.send", "handle": Shaped.handle, "on_failure": Shaped.on_failure}
    del members[missing]
    incomplete: Callable[[], object] = type("Incomplete", (), members)
    with pytest.raises(ConfigurationError, match=rf"Incomplete is no job handler: it lacks {missing} "):
        HandlerRegistry().register(incomplete())


def test_a_synchronous_method_is_refused() -> None:
    class Synchronous(Shaped):
        def handle(self, _job: object) -> object:  # type: ignore[override]  # that is the point
            return None

    with pytest.raises(ConfigurationError, match=r"lacks handle .*async methods"):
        HandlerRegistry().register(Synchronous())


@pytest.mark.parametrize("name", ["task", "email.send", "A-1.b_2.c", "x" * 128])
def test_a_job_type_is_one_or_more_dotted_parts(name: str) -> None:
    assert HandlerRegistry().register(Shaped(name)).name == name
    assert HandlerRegistry().declare(name).name == name


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b", "a b", "a\n", "ü", "x" * 129, None, 7, b"a"])
def test_any_other_job_type_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="job_type must be dotted parts"):
        HandlerRegistry().register(Shaped(name))
    with pytest.raises(ConfigurationError, match="job_type must be dotted parts"):
        HandlerRegistry().declare(name)


@pytest.mark.parametrize("limit", [0, -1, math.nan])
def test_a_time_limit_that_no_run_could_keep_is_refused(limit: float) -> None:
    registry = HandlerRegistry()
    with pytest.raises(ConfigurationError, match="time_limit"):
        registry.register(SendEmail(), time_limit=limit)
    assert list(registry) == []


def test_a_queue_that_some_broker_would_not_take_is_refused() -> None:
    registry = HandlerRegistry()
    with pytest.raises(ValidationError, match="queue_name"):
        registry.register(SendEmail(), queue="a b")
    with pytest.raises(ValidationError, match="queue_name"):
        registry.declare("task", queue="")
    assert list(registry) == []


def test_a_declared_type_has_no_handler() -> None:
    registry = HandlerRegistry()
    assert registry.declare("report.daily", queue="reports") == JobType(name="report.daily", queue_name="reports")
    assert registry.get("report.daily").handler is None


def test_a_declared_type_may_get_its_handler_and_keeps_its_queue() -> None:
    registry, handler = HandlerRegistry(), Shaped()
    registry.declare("report.daily", queue="reports")
    registered = registry.register(handler)
    assert (registered.name, registered.queue_name) == ("report.daily", "reports")
    assert registered is registry.get("report.daily")
    assert isinstance(registered.handler, Shaped)


def test_the_handlers_own_queue_comes_before_the_declared_one() -> None:
    registry = HandlerRegistry()
    registry.declare("report.daily", queue="reports")
    assert registry.register(Shaped(), queue="night").queue_name == "night"


def test_declaring_a_registered_type_changes_nothing() -> None:
    registry = HandlerRegistry()
    registered = registry.register(Shaped(), queue="reports", time_limit=5)
    assert registry.declare("report.daily") is registered
    assert registry.get("report.daily") is registered


@pytest.mark.parametrize("name", ["report.weekly", "", None, [], {}])
def test_an_unknown_type_is_refused_with_the_names_that_are_known(name: Any) -> None:
    registry = HandlerRegistry()
    registry.register(SendEmail())
    registry.declare("report.daily")
    with pytest.raises(UnknownJobType, match=r"known: email\.send, report\.daily"):
        registry.get(name)


def test_an_empty_registry_knows_none() -> None:
    with pytest.raises(UnknownJobType, match="known: none"):
        HandlerRegistry().get("email.send")


def test_the_types_can_be_gone_through_while_more_are_added() -> None:
    registry = HandlerRegistry()
    registry.register(SendEmail())
    for job_type in registry:
        registry.declare(f"{job_type.name}.more")
    assert [job_type.name for job_type in registry] == ["email.send", "email.send.more"]
