"""The deployable webhook: a Flask application that creates the jobs of the Celery application it is told of.

::

    PORTICO_APP=shop PORTICO_WEBHOOK_CONFIG=webhook.toml gunicorn 'webhook_app:create_app()'
    PORTICO_APP=shop PORTICO_WEBHOOK_CONFIG=webhook.toml flask --app webhook_app run
"""

from portico_celery.exceptions import needs_extra

with needs_extra("webhook_app", extra="webhook"):
    from webhook_app.factory import create_app

__all__ = ["create_app"]
