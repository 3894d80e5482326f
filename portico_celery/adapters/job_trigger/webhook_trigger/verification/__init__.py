"""How a request proves who sent it: one module for each scheme."""

from portico_celery.adapters.job_trigger.webhook_trigger.verification.api_keys import ApiKey, ApiKeys, make_key
from portico_celery.adapters.job_trigger.webhook_trigger.verification.github import GitHub
from portico_celery.adapters.job_trigger.webhook_trigger.verification.hmac_signature import HmacSignature
from portico_celery.adapters.job_trigger.webhook_trigger.verification.no_verification import NoVerification
from portico_celery.adapters.job_trigger.webhook_trigger.verification.scheme import NotVerified, SenderScheme
from portico_celery.adapters.job_trigger.webhook_trigger.verification.slack import Slack
from portico_celery.adapters.job_trigger.webhook_trigger.verification.standard_webhooks import StandardWebhooks
from portico_celery.adapters.job_trigger.webhook_trigger.verification.stripe import Stripe

__all__ = [
    "ApiKey",
    "ApiKeys",
    "GitHub",
    "HmacSignature",
    "NoVerification",
    "NotVerified",
    "SenderScheme",
    "Slack",
    "StandardWebhooks",
    "Stripe",
    "make_key",
]
