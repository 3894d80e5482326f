"""Creates jobs from HTTP requests: a Flask blueprint that mounts in any Flask application.

::

    trigger = WebhookTrigger(portico.service, config=WebhookConfig(allowed_job_types=["email.send"]))
    app.register_blueprint(trigger.blueprint)
    await trigger.start()
"""

from portico_celery.exceptions import needs_extra

with needs_extra("the webhook", extra="webhook"):
    from portico_celery.adapters.job_trigger.webhook_trigger.config import WebhookConfig
    from portico_celery.adapters.job_trigger.webhook_trigger.public_url import PublicUrl
    from portico_celery.adapters.job_trigger.webhook_trigger.rate_limits import RateLimits
    from portico_celery.adapters.job_trigger.webhook_trigger.request_schema import WebhookJobRequest
    from portico_celery.adapters.job_trigger.webhook_trigger.source import EventJob, WebhookEvent, WebhookSource
    from portico_celery.adapters.job_trigger.webhook_trigger.trigger import WebhookTrigger
    from portico_celery.adapters.job_trigger.webhook_trigger.verification import (
        ApiKey,
        ApiKeys,
        GitHub,
        HmacSignature,
        NoVerification,
        Slack,
        StandardWebhooks,
        Stripe,
        make_key,
    )

__all__ = [
    "ApiKey",
    "ApiKeys",
    "EventJob",
    "GitHub",
    "HmacSignature",
    "NoVerification",
    "PublicUrl",
    "RateLimits",
    "Slack",
    "StandardWebhooks",
    "Stripe",
    "WebhookConfig",
    "WebhookEvent",
    "WebhookJobRequest",
    "WebhookSource",
    "WebhookTrigger",
    "make_key",
]
