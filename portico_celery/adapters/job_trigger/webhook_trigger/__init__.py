"""Creates jobs from HTTP requests: a Flask blueprint that mounts in any Flask application.

::

    trigger = WebhookTrigger(portico.service, config=WebhookConfig(allowed_job_types=["email.send"]))
    app.register_blueprint(trigger.blueprint)
    await trigger.start()
"""

from portico_celery.adapters.job_trigger.webhook_trigger.config import WebhookConfig
from portico_celery.adapters.job_trigger.webhook_trigger.request_schema import WebhookJobRequest
from portico_celery.adapters.job_trigger.webhook_trigger.trigger import WebhookTrigger

__all__ = ["WebhookConfig", "WebhookJobRequest", "WebhookTrigger"]
