"""``celery -A shop portico ...``: commands that Celery finds by the entry point celery.commands."""

from portico_celery.cli.group import portico

__all__ = ["portico"]
