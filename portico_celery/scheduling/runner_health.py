"""What a schedule runner has done so far, counted and logged."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from portico_celery.scheduling.schedule import Schedule
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)


@dataclass
class RunnerHealth:
    """Counts jobs, those that another runner has created first as well, and errors.

    ``last_job_created`` is by this machine's clock.
    """

    jobs_created: int = 0
    errors: int = 0
    last_job_created: datetime | None = None

    def note_job(self, schedule: Schedule, fire: datetime, **fields: object) -> None:
        """Count the job of a fire time."""
        self.jobs_created += 1
        self.last_job_created = datetime.now(UTC)
        about = {"schedule": schedule.name, "job_type": schedule.config.job_type, "scheduled_for": fire.isoformat()}
        logger.info("job_created_from_schedule", **about, **fields)

    def note_error(self, event: str, **fields: object) -> None:
        """Count an error."""
        self.errors += 1
        logger.error(event, **fields)
