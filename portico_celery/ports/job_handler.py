"""The port that application code implements to process one type of job."""

from __future__ import annotations

from abc import ABC, abstractmethod

from portico_celery.ports.job import Job, JobResult


class JobHandler(ABC):
    """Processes the jobs of one type. Stateless; what it needs comes in by its constructor."""

    @property
    @abstractmethod
    def job_type(self) -> str:
        """The type this handler processes: one or more dotted parts, such as ``email.send``."""

    @abstractmethod
    async def handle(self, job: Job) -> JobResult:
        """Process the job.

        Raising means an unexpected failure and is retried with backoff until ``job.max_retries`` are spent.
        Returning ``JobResult(success=False)`` means an expected failure and is final, unless
        ``result_data["retry_recommended"] is True``.
        """

    @abstractmethod
    async def on_failure(self, job: Job, error: Exception) -> None:
        """Hear of a failure, retried or not, with the job as it was when it failed.

        In the last call ``job.retry_count >= job.max_retries``. What this raises is logged and changes nothing.
        """
