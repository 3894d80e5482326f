"""The deployable webhook: a Flask application that creates the jobs of the Celery application it is told of.

::

    PORTICO_APP=shop gunicorn 'webhook_app:create_app()'
    PORTICO_APP=shop flask --app webhook_app run
"""

from webhook_app.factory import create_app

__all__ = ["create_app"]
