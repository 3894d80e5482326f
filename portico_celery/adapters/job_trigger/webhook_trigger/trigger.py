"""The webhook trigger: its life, and the one step from a request to a job."""

from __future__ import annotations

import asyncio

from flask import Blueprint
from werkzeug.exceptions import HTTPException

from portico_celery.adapters.job_trigger.webhook_trigger.activity import Activity
from portico_celery.adapters.job_trigger.webhook_trigger.blueprint import webhook_blueprint
from portico_celery.adapters.job_trigger.webhook_trigger.config import WebhookConfig
from portico_celery.adapters.job_trigger.webhook_trigger.request_schema import WebhookJobRequest
from portico_celery.exceptions import UnknownJobType, ValidationError
from portico_celery.ports.job import Job
from portico_celery.ports.job_creator import JobCreator
from portico_celery.ports.job_trigger import JobTrigger, TriggerHealth
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)


class WebhookTrigger(JobTrigger):
    """Creates a job for each accepted ``POST {prefix}/jobs``.

    Where the creator is a JobReader too, ``GET {prefix}/jobs/<id>`` shows a job. It knows no authentication: put it
    behind something that does.
    """

    def __init__(self, job_creator: JobCreator, config: WebhookConfig | None = None) -> None:
        self.job_creator = job_creator
        self.config = config or WebhookConfig()
        self._activity = Activity()
        self._blueprint = webhook_blueprint(
            config=self.config, activity=self._activity, creator=job_creator, create=self._create_job_endpoint
        )

    @property
    def blueprint(self) -> Blueprint:
        """The routes, for ``app.register_blueprint(trigger.blueprint)``."""
        return self._blueprint

    @property
    def is_running(self) -> bool:
        """Whether requests create jobs now; while not, they are answered 503."""
        return self._activity.running

    async def start(self) -> None:
        """Begin to accept requests. Needs no lasting event loop, and may be called before a fork."""
        scope = {"prefix": self.config.prefix, "allowed_types": self.config.allowed_job_types}
        if not self._activity.set_running(True):
            logger.warning("trigger_already_running", **scope)
            return
        logger.info("starting_webhook_trigger", **scope)
        logger.info("webhook_trigger_started", **scope)

    async def stop(self) -> None:
        """Refuse further requests, and wait for the jobs that are being created."""
        stopped = self._activity.set_running(False)
        if not self._activity.idle:
            await asyncio.to_thread(self._activity.wait_until_idle)
        if stopped:
            logger.info("webhook_trigger_stopped", prefix=self.config.prefix)

    def health(self) -> TriggerHealth:
        """Say how this process's trigger is doing. Requests that were at fault themselves are not errors."""
        return self._activity.health()

    async def _create_job_endpoint(self, request: WebhookJobRequest) -> Job:
        """Create the job that a valid request asks for. The view and subclasses call it; it raises what went wrong."""
        if not self.config.allows(request.job_type):
            raise UnknownJobType(f"job type {request.job_type!r} is not in allowed_job_types")
        try:
            job = await self.job_creator.create_job(**request.arguments())
        except (ValidationError, HTTPException):
            # The request's fault, or a creator's own answer to it (429 and the like).
            raise
        except Exception:
            self._activity.error()
            raise
        self._activity.job_created()
        logger.info("job_created_from_webhook", job_id=str(job.id), job_type=job.job_type)
        return job
