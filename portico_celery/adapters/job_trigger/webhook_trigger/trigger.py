"""The webhook trigger: its life, and the one step from a request to a job."""

from __future__ import annotations

import asyncio

from flask import Blueprint
from werkzeug.exceptions import HTTPException

from portico_celery.adapters.job_trigger.webhook_trigger.activity import Activity
from portico_celery.adapters.job_trigger.webhook_trigger.blueprint import webhook_blueprint
from portico_celery.adapters.job_trigger.webhook_trigger.config import WebhookConfig
from portico_celery.adapters.job_trigger.webhook_trigger.docs_pages import add_docs_pages
from portico_celery.adapters.job_trigger.webhook_trigger.flask_rate_limiter import FlaskRateLimiter
from portico_celery.adapters.job_trigger.webhook_trigger.openapi import OpenApiDocument
from portico_celery.adapters.job_trigger.webhook_trigger.problem import Problem
from portico_celery.adapters.job_trigger.webhook_trigger.request_schema import WebhookJobRequest
from portico_celery.adapters.job_trigger.webhook_trigger.routes import Routes
from portico_celery.adapters.job_trigger.webhook_trigger.verification.no_verification import NoVerification
from portico_celery.exceptions import ConfigurationError, UnknownJobType, ValidationError
from portico_celery.ports.job import Job
from portico_celery.ports.job_creator import JobCreator
from portico_celery.ports.job_trigger import JobTrigger, TriggerHealth
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)


class WebhookTrigger(JobTrigger):
    """Creates a job for each accepted ``POST {prefix}/jobs``, and for the events of named senders.

    Where the creator is a JobReader too, ``GET {prefix}/jobs/<id>`` shows a job. Where its configuration has neither
    ``authentication`` nor ``sources``, whoever reaches it can create jobs, and it says so when it starts.
    """

    def __init__(self, job_creator: JobCreator, config: WebhookConfig | None = None) -> None:
        self.job_creator = job_creator
        self.config = config or WebhookConfig()
        self._activity = Activity()
        routes = Routes(
            config=self.config,
            activity=self._activity,
            limiter=FlaskRateLimiter(self.config.rate_limits),
            creator=job_creator,
            create=self._create_job_endpoint,
            batches=type(self)._create_job_endpoint is WebhookTrigger._create_job_endpoint,
        )
        all_routes = routes.all()
        self._blueprint = webhook_blueprint(
            prefix=self.config.prefix,
            routes=all_routes,
            admission=routes.admission,
            needs_event_loop=routes.needs_event_loop,
        )
        if self.config.docs:
            document = OpenApiDocument(self.config, [(route.rule, route.name) for route in all_routes])
            add_docs_pages(self._blueprint, document)

    @property
    def blueprint(self) -> Blueprint:
        """The routes, for ``app.register_blueprint(trigger.blueprint)``."""
        return self._blueprint

    @property
    def is_running(self) -> bool:
        """Whether requests create jobs now; while not, they are answered 503."""
        return self._activity.running

    async def start(self) -> None:
        """Begin to accept requests. Needs no lasting event loop, and may be called before a fork.

        Raises ConfigurationError where a source creates a job type that the job creator does not know.
        """
        _require_known_types(self.config, self.job_creator)
        scope = {"prefix": self.config.prefix, "allowed_types": self.config.allowed_job_types}
        if not self._activity.set_running(True):
            logger.warning("trigger_already_running", **scope)
            return
        logger.info("starting_webhook_trigger", **scope)
        if self.config.authentication is None:
            _warn_of_open_door(self.config)
        for name, source in self.config.sources.items():
            if isinstance(source.scheme, NoVerification):
                logger.warning("webhook_source_not_verified", source=name, advice=_NOT_VERIFIED)
        logger.info("webhook_trigger_started", **scope)

    async def stop(self) -> None:
        """Refuse further requests, and wait for the jobs that are being created."""
        stopped = self._activity.set_running(False)
        if not self._activity.idle:
            await asyncio.to_thread(self._activity.wait_until_idle)
        if stopped:
            logger.info("webhook_trigger_stopped", prefix=self.config.prefix)

    def end_waits(self) -> None:
        """Answer at once who waits for a job to end (``?wait=5``), with the job as it is: this process is to stop.

        From then on nobody waits, until ``start``. Safe in a signal handler.
        """
        self._activity.end_waits()

    def health(self) -> TriggerHealth:
        """Say how this process's trigger is doing. Requests that were at fault themselves are not errors."""
        return self._activity.health()

    async def _create_job_endpoint(self, request: WebhookJobRequest) -> Job:
        """Create the job that a valid request asks for; it raises what went wrong.

        Every request but a batch comes through here, so a subclass may refuse some. There are then no batches.
        """
        if not self.config.allows(request.job_type):
            raise UnknownJobType(f"job type {request.job_type!r} is not in allowed_job_types")
        try:
            job = await self.job_creator.create_job(**request.arguments(self.config.default_queue))
        except (ValidationError, Problem, HTTPException):
            # The request's fault, or a creator's own answer to it (429 and the like).
            raise
        except Exception:
            self._activity.error()
            raise
        if request.metadata is None or job.metadata == request.metadata:
            self._activity.job_created()
            logger.info("job_created_from_webhook", job_id=str(job.id), job_type=job.job_type)
        return job


_NOT_VERIFIED = "anyone who reaches its address can create its jobs: use the scheme that the sender signs by"


def _require_known_types(config: WebhookConfig, creator: JobCreator) -> None:
    for name, source in config.sources.items():
        unknown = sorted(job_type for job_type in source.job_types() if not _is_known(creator, job_type))
        if unknown:
            raise ConfigurationError(
                f"source {name!r} creates {', '.join(unknown)}, which is not known here: before the webhook starts, "
                f"register its handler, or declare it: portico.declare({unknown[0]!r})"
            )


def _is_known(creator: JobCreator, job_type: str) -> bool:
    try:
        creator.check_job(job_type=job_type, payload={})
    except UnknownJobType:
        return False
    except ValidationError:
        # The type is known; what the empty payload lacks is no matter here.
        return True
    return True


def _warn_of_open_door(config: WebhookConfig) -> None:
    allowed = config.allowed_job_types
    logger.warning(
        "webhook_without_authentication",
        prefix=config.prefix,
        allowed_types="every type" if allowed is None else ",".join(allowed),
        advice="anyone who reaches this address can create these jobs: configure authentication, or put it behind "
        "what authenticates callers",
    )
