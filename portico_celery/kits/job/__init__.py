"""Creating and running jobs."""

from portico_celery.kits.job.handler_registry import HandlerRegistry, JobType
from portico_celery.kits.job.job_runner import JobRunner, RunReport
from portico_celery.kits.job.job_service import JobService
from portico_celery.kits.job.sync_job_service import SyncJobService
from portico_celery.kits.job.worker_manager import WorkerManager

__all__ = ["HandlerRegistry", "JobRunner", "JobService", "JobType", "RunReport", "SyncJobService", "WorkerManager"]
