"""Schedules in the application's own process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from celery import Celery

from portico_celery import PorticoCelery
from portico_celery.adapters.job_trigger.schedule_trigger import ScheduleConfig, ScheduleTrigger
from portico_celery.exceptions import ConfigurationError, InvalidSchedule, UnknownJobType, ValidationError
from portico_celery.kits.job import JobService
from portico_celery.ports.job_reader import JobFilter
from portico_celery.scheduling.sync_schedule_service import SyncScheduleService
from tests.unit.queue_in_memory import NineMethods
from tests.waiting import eventually

SECONDS = 10.0


def just_now(**settings: Any) -> ScheduleConfig:
    """Each minute, since the minute before: one fire time is made up for at once."""
    return ScheduleConfig(
        "* * * * *", "report.daily", {"kind": "daily"}, start_at=datetime.now(UTC) - timedelta(minutes=1), **settings
    )


def once_a_year(**settings: Any) -> ScheduleConfig:
    """In the minute before this one, and made up for at once."""
    fire = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=1)
    cron = f"{fire.minute} {fire.hour} {fire.day} {fire.month} *"
    return ScheduleConfig(cron, "report.daily", start_at=fire, **settings)


async def until(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(eventually, condition, SECONDS)


@pytest.fixture
def portico(tmp_path: Path) -> Any:
    app = Celery("shop", broker="portico-memory://", set_as_current=False)
    portico = PorticoCelery(app, store=f"sqlite:///{tmp_path / 'jobs.db'}")
    portico.declare("report.daily", queue="schedule-trigger")
    yield portico
    portico.close()
    app.close()


class TestRunning:
    def test_it_creates_jobs_by_any_creator_in_the_loop_it_was_started_in(self) -> None:
        async def run() -> tuple[AsyncMock, Any, Any]:
            creator = AsyncMock()
            loop = asyncio.get_running_loop()
            loops: list[Any] = []
            creator.create_job.side_effect = lambda **_: loops.append(asyncio.get_running_loop())
            trigger = ScheduleTrigger(job_creator=creator, schedules=[just_now()])
            await trigger.start()
            await until(lambda: creator.create_job.called)
            await trigger.stop()
            assert set(loops) == {loop}
            return creator, trigger, loops

        creator, _trigger, _loops = asyncio.run(run())
        arguments = creator.create_job.call_args.kwargs
        assert (arguments["job_type"], arguments["payload"], arguments["queue_name"], arguments["priority"]) == (
            "report.daily",
            {"kind": "daily"},
            "default",
            0,
        )
        assert arguments["metadata"]["schedule"] == "report.daily * * * * *"

    def test_what_it_made_is_remembered_beside_the_jobs(self, portico: PorticoCelery) -> None:
        # It fires once a year, and has just done so: another trigger that began anew would make it up again.
        daily, other = (once_a_year(name=name) for name in ("daily", "other"))
        for config in (daily, other):
            portico.schedule(config)

        def created(name: str) -> int:
            return SyncScheduleService(portico.schedules).get_schedule(name).state.created

        async def run(name: str, *configs: ScheduleConfig) -> int:
            trigger = ScheduleTrigger(portico.service, configs)
            await trigger.start()
            await until(lambda: created(name))
            await trigger.stop()
            return trigger.health().jobs_created_count

        assert asyncio.run(run("daily", daily)) == 1
        assert asyncio.run(run("other", daily, other)) == 1, "daily again, of which the first trigger has made the job"
        assert (created("daily"), created("other")) == (1, 1)
        jobs = asyncio.run(portico.service.list_jobs(JobFilter())).jobs
        assert sorted(job.metadata["schedule"] for job in jobs) == ["daily", "other"]

    def test_starting_twice_at_the_same_time_is_starting_once(self, portico: PorticoCelery) -> None:
        async def beats_left() -> set[str]:
            before = {thread.name for thread in threading.enumerate()}
            trigger = ScheduleTrigger(portico.service, [])
            await asyncio.gather(trigger.start(), trigger.start())
            await trigger.stop()
            # The loop's own threads stay, and those that speak to the store.
            left = {thread.name for thread in threading.enumerate()} - before
            return {name for name in left if not name.startswith(("asyncio_", "portico-"))}

        assert asyncio.run(beats_left()) == set()

    def test_starting_twice_is_starting_once_and_it_may_be_started_again(self) -> None:
        async def run() -> None:
            trigger = ScheduleTrigger(AsyncMock(), [])
            await trigger.stop()
            for _ in range(2):
                await trigger.start()
                await trigger.start()
                assert trigger.health().is_running
                await trigger.stop()
                assert not trigger.health().is_running

        asyncio.run(run())

    def test_a_queue_that_keeps_no_state_is_made_do_with(self) -> None:
        async def run() -> None:
            queue = NineMethods()
            trigger = ScheduleTrigger(JobService(queue), [just_now()])
            await trigger.start()
            await until(lambda: queue.store.stats("default").pending_count)
            await trigger.stop()

        asyncio.run(run())

    def test_its_health_counts_jobs_and_errors(self) -> None:
        async def run() -> None:
            creator = AsyncMock()
            creator.create_job.side_effect = [RuntimeError("not yet"), AsyncMock()]
            trigger = ScheduleTrigger(creator, [just_now()])
            assert (trigger.health().is_running, trigger.health().jobs_created_count) == (False, 0)
            await trigger.start()
            await until(lambda: trigger.health().jobs_created_count == 1)
            health = trigger.health()
            assert (health.is_running, health.errors_count) == (True, 1)
            assert health.last_job_created is not None
            await trigger.stop()

        asyncio.run(run())


class TestRefused:
    def test_what_can_not_be_is_refused_at_once(self, portico: PorticoCelery) -> None:
        def refused(*configs: ScheduleConfig) -> str:
            with pytest.raises(ConfigurationError) as caught:
                ScheduleTrigger(portico.service, configs)
            return str(caught.value)

        assert "never comes" in refused(ScheduleConfig("0 0 31 2 *", "report.daily"))
        assert "already" in refused(just_now(name="a"), just_now(name="a"))
        with pytest.raises(UnknownJobType, match=r"report\.weekly"):
            ScheduleTrigger(portico.service, [ScheduleConfig("@daily", "report.weekly")])
        with pytest.raises(ValidationError, match=r"schedule 'report\.daily @daily': payload\.when is a"):
            ScheduleTrigger(portico.service, [ScheduleConfig("@daily", "report.daily", {"when": datetime.now(UTC)})])

    def test_so_it_is_by_portico_itself(self, portico: PorticoCelery) -> None:
        with pytest.raises(InvalidSchedule, match="6 fields"):
            portico.schedule(ScheduleConfig("* * * * * *", "report.daily"))
        with pytest.raises(InvalidSchedule, match="never comes"):
            portico.schedule(ScheduleConfig("0 0 31 2 *", "report.daily"))
        with pytest.raises(UnknownJobType, match=r"report\.weekly"):
            portico.schedule(ScheduleConfig("@daily", "report.weekly"))
        with pytest.raises(ConfigurationError, match="is a ScheduleConfig"):
            portico.schedule("@daily")  # type: ignore[arg-type]  # that is the point
        portico.schedule(ScheduleConfig("@daily", "report.daily"))
        with pytest.raises(ConfigurationError, match="already"):
            portico.schedule(ScheduleConfig("@daily", "report.daily", {"other": 1}))
        with pytest.raises(ValidationError, match=r"payload\.when is a datetime"):
            portico.schedule(ScheduleConfig("@hourly", "report.daily", {"when": datetime.now(UTC)}))
        portico.app.conf.portico_max_payload_bytes = 1_000
        portico.schedule(ScheduleConfig("@hourly", "report.daily", {"text": "x" * 1_000}, name="large"))
        for check in (portico.schedule_runner, lambda: portico.schedules):
            with pytest.raises(ValidationError, match="schedule 'large': payload is 1,012 bytes"):
                check()
