"""Which addresses a trigger has. Those that read or change jobs exist where the creator can."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

from portico_celery.adapters.job_trigger.webhook_trigger.activity import Activity
from portico_celery.adapters.job_trigger.webhook_trigger.admission import Admission
from portico_celery.adapters.job_trigger.webhook_trigger.backlog import Backlog
from portico_celery.adapters.job_trigger.webhook_trigger.batch import BatchEndpoint
from portico_celery.adapters.job_trigger.webhook_trigger.config import WebhookConfig
from portico_celery.adapters.job_trigger.webhook_trigger.endpoints import CreatingEndpoints
from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import Endpoint, Route
from portico_celery.adapters.job_trigger.webhook_trigger.job_creation import Create, JobCreation
from portico_celery.adapters.job_trigger.webhook_trigger.jobs_api import JobsApi
from portico_celery.adapters.job_trigger.webhook_trigger.rate_limits import RateLimiter
from portico_celery.ports.job_admin import JobAdmin
from portico_celery.ports.job_creator import BatchJobCreator, JobCreator
from portico_celery.ports.job_reader import JobReader


class Routes:
    """Puts the endpoints together."""

    def __init__(
        self,
        *,
        config: WebhookConfig,
        activity: Activity,
        limiter: RateLimiter,
        creator: JobCreator,
        create: Create,
        batches: bool,
    ) -> None:
        self._config = config
        self._batches = batches
        self._creator = creator
        self._activity = activity
        self._limiter = limiter
        self._reader = creator if isinstance(creator, JobReader) else None
        self._backlog = Backlog(self._reader, config.max_pending, config.default_queue)
        self.needs_event_loop = getattr(creator, "needs_event_loop", True)
        self.admission = Admission(keys=config.authentication, limiter=self._limiter, activity=activity, clock=utc_now)
        self._creation = JobCreation(
            config=config, limiter=self._limiter, backlog=self._backlog, reader=self._reader, create=create
        )

    def all(self) -> list[Route]:
        """Return every address."""
        creating = CreatingEndpoints(
            admission=self.admission,
            creation=self._creation,
            activity=self._activity,
            clock=utc_now,
            shows_jobs=self._reader is not None,
        )
        jobs: dict[str, Endpoint] = {"POST": creating.create_job}
        further = [
            self._route(
                f"/{name}",
                f"source_{name}",
                {"POST": partial(creating.receive, name=name, source=source)},
                source.max_body_bytes,
            )
            for name, source in self._config.sources.items()
        ]
        if self._batches and isinstance(self._creator, BatchJobCreator):
            further.append(self._batch_route(self._creator))
        if self._reader is not None:
            api = JobsApi(
                admission=self.admission,
                activity=self._activity,
                reader=self._reader,
                admin=self._creator if isinstance(self._creator, JobAdmin) else None,
                pause=asyncio.sleep if self.needs_event_loop else _block,
            )
            further.append(self._route("/jobs/<job_id>", "job", {"GET": api.show_job}))
            if self._config.has_jobs_api:
                jobs["GET"] = api.list_jobs
                further += self._api_routes(api)
        return [self._route("/jobs", "jobs", jobs), *further]

    def _api_routes(self, api: JobsApi) -> list[Route]:
        routes = [self._route("/queues/<queue_name>/stats", "queue", {"GET": api.show_queue})]
        if api.admin is not None:
            routes.append(self._route("/jobs/<job_id>/cancel", "cancel", {"POST": api.cancel_job}))
            routes.append(self._route("/jobs/<job_id>/requeue", "requeue", {"POST": api.requeue_job}))
        return routes

    def _batch_route(self, creator: BatchJobCreator) -> Route:
        batch = BatchEndpoint(
            admission=self.admission,
            creation=self._creation,
            creator=creator,
            limiter=self._limiter,
            backlog=self._backlog,
            activity=self._activity,
            clock=utc_now,
        )
        return self._route("/jobs/batch", "batch", {"POST": batch.create_jobs}, self._config.max_batch_bytes)

    def _route(self, rule: str, name: str, endpoints: Mapping[str, Endpoint], max_bytes: int | None = None) -> Route:
        limit = self._config.max_body_bytes if max_bytes is None else max_bytes
        return Route(rule=rule, name=name, endpoints=endpoints, max_bytes=limit)


def utc_now() -> datetime:
    """Return the time by which signatures, keys and schedules are judged."""
    return datetime.now(UTC)


async def _block(seconds: float) -> None:
    # The view's own thread, which serves nobody else meanwhile.
    time.sleep(seconds)  # noqa: ASYNC251  # driven without an event loop
