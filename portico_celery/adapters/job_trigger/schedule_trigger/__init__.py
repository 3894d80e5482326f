"""Creates jobs at the times that cron lines name."""

from portico_celery.adapters.job_trigger.schedule_trigger.trigger import ScheduleTrigger
from portico_celery.ports.schedule import ScheduleConfig

__all__ = ["ScheduleConfig", "ScheduleTrigger"]
