"""Finds the Celery application that the webhook creates jobs for."""

from __future__ import annotations

from typing import Protocol, cast

from celery.app.utils import find_app

from portico_celery.exceptions import ConfigurationError
from portico_celery.ports.job_creator import JobCreator


class PorticoFace(Protocol):
    """What the webhook wants of a PorticoCelery."""

    @property
    def service(self) -> JobCreator:
        """What creates jobs; where it is a JobReader too, the webhook also shows them."""


def load_portico(name: str | None) -> PorticoFace:
    """Import the named Celery application and return its ``portico``. Raises ConfigurationError."""
    if name is None:
        raise ConfigurationError(
            "PORTICO_APP is not set: name the Celery application there as for celery -A, such as PORTICO_APP=shop:app"
        )
    portico = getattr(_celery_application(name), "portico", None)
    if portico is None:
        raise ConfigurationError(
            f"PORTICO_APP={name} is no Celery application with a portico: make one with PorticoCelery(app, store=...) "
            "in the module that PORTICO_APP names"
        )
    return cast("PorticoFace", portico)


def _celery_application(name: str) -> object:
    try:
        return find_app(name)
    except (ImportError, AttributeError, ValueError) as error:
        if isinstance(error.__context__, ConfigurationError):
            # The application's own, which kombu wraps for being a ValueError: it says itself what to do.
            raise error.__context__ from None
        raise ConfigurationError(
            f"PORTICO_APP={name} can't be loaded ({type(error).__name__}: {error}): name a module that can be imported "
            "from here and holds the Celery application, such as shop or shop:app"
        ) from error
