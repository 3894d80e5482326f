"""Which API keys are in use, for who changes one for another: they stand in a file, so that the log has to say it."""

from __future__ import annotations

from datetime import datetime, timedelta

from portico_celery.adapters.job_trigger.webhook_trigger.verification.api_keys import ApiKey
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

_PAUSE = timedelta(hours=1)


class KeyUse:
    """Logs a key when it is first used in this process, and then at most once an hour. Many threads share it."""

    def __init__(self) -> None:
        self._told: dict[str, datetime] = {}

    def note(self, key: ApiKey, now: datetime) -> None:
        """Remember that a key has opened the webhook."""
        told = self._told.get(key.id)
        # Without a lock: that two threads say it at once does no harm.
        if told is None or now - told >= _PAUSE:
            self._told[key.id] = now
            logger.info("api_key_used", key_id=key.id, caller=key.caller)
