"""The checks before anything is parsed, the cheapest first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from email.message import Message
from http import HTTPStatus

from portico_celery.adapters.job_trigger.webhook_trigger.activity import Activity
from portico_celery.adapters.job_trigger.webhook_trigger.caller import Caller
from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import JSON, HttpRequest
from portico_celery.adapters.job_trigger.webhook_trigger.problem import Problem
from portico_celery.adapters.job_trigger.webhook_trigger.rate_limits import RateLimiter
from portico_celery.adapters.job_trigger.webhook_trigger.source import WebhookSource
from portico_celery.adapters.job_trigger.webhook_trigger.verification.api_keys import ApiKeys
from portico_celery.adapters.job_trigger.webhook_trigger.verification.key_use import KeyUse
from portico_celery.adapters.job_trigger.webhook_trigger.verification.scheme import NotVerified

STOPPED_RETRY_AFTER = {"Retry-After": "5"}


class Admission:
    """Who may come in. Each method raises Problem for who may not."""

    def __init__(
        self, *, keys: ApiKeys | None, limiter: RateLimiter, activity: Activity, clock: Callable[[], datetime]
    ) -> None:
        self._keys = keys
        self._key_use = KeyUse()
        self._limiter = limiter
        self._activity = activity
        self._clock = clock

    def admit_caller(self, request: HttpRequest) -> Caller:
        """Let in who has one of our API keys, or everybody where there are none."""
        self.require_running()
        self._limiter.count_address(request.remote_address)
        require_json(request)
        return self._known_caller(request)

    def admit_changer(self, request: HttpRequest) -> Caller:
        """Let in who may change a job. There is nothing in the body to be read."""
        self.require_running()
        self._limiter.count_address(request.remote_address)
        return self._known_caller(request)

    def admit_sender(self, request: HttpRequest, name: str, source: WebhookSource) -> Caller:
        """Let in what a named sender has signed."""
        self.require_running()
        self._limiter.count_address(request.remote_address)
        require_json(request)
        try:
            source.scheme.verify(request, now=self._clock())
        except NotVerified as error:
            raise _unauthorized("Signature", str(error)) from None
        # "source:" can't be an API key's caller, so that neither can see the other's jobs.
        return self._counted(Caller(name=f"source:{name}"))

    def require_running(self) -> None:
        """Raise Problem (503) while the trigger is stopped."""
        if not self._activity.running:
            raise trigger_stopped()

    def _known_caller(self, request: HttpRequest) -> Caller:
        return self._counted(self._authenticated(request))

    def _counted(self, caller: Caller) -> Caller:
        quota = self._limiter.count_caller(caller.name)
        return replace(caller, quota=quota) if quota else caller

    def _authenticated(self, request: HttpRequest) -> Caller:
        if self._keys is None:
            return Caller()
        try:
            now = self._clock()
            key = self._keys.authenticate(request, now=now)
        except NotVerified as error:
            raise _unauthorized("Bearer", str(error)) from None
        self._key_use.note(key, now)
        return Caller(name=key.caller, job_types=key.job_types, queues=key.queues)


def require_json(request: HttpRequest) -> None:
    """Refuse a body that is encoded, or is anything but JSON in UTF-8: 415."""
    if not request.body and request.method in ("GET", "HEAD"):
        return
    if (request.header("Content-Encoding") or "identity").strip().lower() != "identity":
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "The body must not be compressed or otherwise encoded.",
            headers={"Accept-Encoding": "identity"},
        )
    media_type = request.header("Content-Type") or "none/none"
    if media_type != JSON and not _is_json(media_type):
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The content type must be application/json, in UTF-8.")


def _is_json(media_type: str) -> bool:
    media = Message()
    media["Content-Type"] = media_type
    parameters = [(name.lower(), value) for name, value in (media.get_params() or [])[1:]]
    if any(not isinstance(value, str) for _, value in parameters):  # in an encoding of its own, by RFC 2231
        return False
    told = {name: value.lower() for name, value in parameters}
    return media.get_content_type() == JSON and told in ({}, {"charset": "utf-8"})


def trigger_stopped() -> Problem:
    """Return the answer of a trigger that is not running."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE, "The webhook does not take requests at the moment.", headers=STOPPED_RETRY_AFTER
    )


def _unauthorized(scheme: str, reason: str) -> Problem:
    # One answer for all of them: it tells nobody how near they were.
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        "The request does not prove who sent it.",
        headers={"WWW-Authenticate": scheme},
        reason=reason,
    )
