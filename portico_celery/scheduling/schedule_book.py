"""The schedules of an application, one for each name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from portico_celery.exceptions import ConfigurationError, ResourceNotFoundError, ValidationError
from portico_celery.ports.schedule import ScheduleConfig
from portico_celery.scheduling.fire_times import FireTimes, ReadFireTimes
from portico_celery.scheduling.schedule import CheckJob, Schedule


class ScheduleBook(Collection[Schedule]):
    """Knows every schedule by name."""

    def __init__(self, read_fire_times: ReadFireTimes) -> None:
        self._read_fire_times = read_fire_times
        self._schedules: dict[str, Schedule] = {}

    def add(
        self,
        config: ScheduleConfig,
        *,
        fire_times: FireTimes | None = None,
        check_job: CheckJob | None = None,
    ) -> Schedule:
        """Add a schedule, with fire times of its own or those of its cron line, unless ``check_job`` refuses its jobs.

        Raises InvalidSchedule for a cron line that can't be, ConfigurationError for a name that is taken, and what
        ``check_job`` does.
        """
        if not isinstance(config, ScheduleConfig):
            raise ConfigurationError(f"a schedule is a ScheduleConfig, not {config!r:.80}")
        if config.name in self._schedules:
            raise ConfigurationError(
                f"there is a schedule {config.name!r} already: give each a name of its own, by name=..."
            )
        schedule = Schedule(config=config, fire_times=fire_times or self.read(config))
        if check_job is not None:
            schedule.check(check_job)
        self._schedules[config.name] = schedule
        return schedule

    def read(self, config: ScheduleConfig) -> FireTimes:
        """Return the fire times of a cron line. Raises InvalidSchedule."""
        return self._read_fire_times(config)

    def take(self, other: ScheduleBook) -> None:
        """Add all schedules of another book."""
        self._schedules |= other._schedules

    def copy(self) -> ScheduleBook:
        """Return another book of the same schedules."""
        book = ScheduleBook(self._read_fire_times)
        book._schedules = dict(self._schedules)
        return book

    def get(self, name: str) -> Schedule:
        """Return the schedule. Raises ResourceNotFoundError, which names those there are."""
        try:
            return self._schedules[name]
        except KeyError:
            known = ", ".join(sorted(map(repr, self._schedules))) or "none"
            raise ResourceNotFoundError(f"there is no schedule {name!r} (known: {known})") from None

    def __len__(self) -> int:
        return len(self._schedules)

    def __contains__(self, schedule: object) -> bool:
        return schedule in self._schedules.values()

    def __iter__(self) -> Iterator[Schedule]:
        return iter(tuple(self._schedules.values()))


def check_all(schedules: Iterable[Schedule], check_job: CheckJob) -> None:
    """Raise what a creator has against the jobs of the first schedule whose jobs can't be; it is named."""
    for schedule in schedules:
        try:
            schedule.check(check_job)
        except ValidationError as error:
            raise type(error)(f"schedule {schedule.name!r}: {error}", argument=error.argument) from error
