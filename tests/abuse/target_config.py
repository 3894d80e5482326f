"""The configuration of the webhook under attack: keys, limits and senders."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_" + "b2xk" * 8
RETIRED_SECRET = "whsec_" + "cmV0" * 8
CRM_SECRET = "whsec_" + "QUJD" * 8
#: The one of GitHub, Stripe and Slack.
PLAIN_SECRET = "s"
#: More than any test sends.
MANY = "100000/minute"


def config_text(keys: Mapping[str, tuple[str, str]], queue_name: str, redis: str, per_caller: str) -> str:
    """Write the file. ``keys`` are the id and the hash of each caller's."""
    return f"""
allowed_job_types = ["email.send", "report.daily", "event.any"]
allowed_queues = ["{queue_name}"]

[payload_schemas]
"email.send" = "tests.abuse.abuse_app:Mail"

[rate_limits]
per_caller = "{per_caller}"
storage = "{redis}"

{_keys(keys)}
[sources.standard]
scheme = "standard-webhooks"
secrets = ["{SECRET}", "{OLD_SECRET}"]
events = {{"*" = "event.any"}}
[sources.crm]
scheme = "standard-webhooks"
secrets = ["{CRM_SECRET}"]
events = {{"*" = "event.any"}}
[sources.github]
scheme = "github"
secrets = ["{PLAIN_SECRET}"]
events = {{"push" = "event.any"}}
[sources.stripe]
scheme = "stripe"
secrets = ["{PLAIN_SECRET}"]
events = {{"*" = "event.any"}}
[sources.slack]
scheme = "slack"
secrets = ["{PLAIN_SECRET}"]
events = {{"*" = "event.any"}}
"""


def _keys(keys: Mapping[str, tuple[str, str]]) -> str:
    # Requests are counted by the caller's name, in a Redis that other runs use, too.
    entries, mark = "", uuid4().hex
    for name, (key_id, sha256) in keys.items():
        entries += f'[[keys]]\nid = "{key_id}"\ncaller = "{name}-{mark}"\nsha256 = "{sha256}"\n'
        entries += 'job_types = ["email.send"]\n' if name == "mailer" else ""
        entries += "expires_at = 2020-01-01T00:00:00Z\n" if name == "expired" else ""
    return entries
