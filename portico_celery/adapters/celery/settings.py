"""The portico_ settings, read from Celery's configuration and checked, in one typed place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from celery import Celery
from celery.app import utils as celery_utils

from portico_celery.exceptions import ConfigurationError
from portico_celery.ports.job_store import DEFAULT_RESULT_TTL

_PREFIX = "portico_"
_STORE_URL = f"{_PREFIX}store_url"
NEWER_SCHEMA = "newer-schema"
#: What portico_allow may name: a worker then starts in spite of it.
ALLOWABLE = ("pickle", "gevent", "eventlet", NEWER_SCHEMA)
# A beat that dies when it has made a job, and not noted it, needs another within this time.
_LEAST_RESULT_TTL_OF_SCHEDULES = 600.0


@dataclass(frozen=True, kw_only=True)
class PorticoSettings:
    """Each field is the setting ``portico_<field>``. Durations are in seconds."""

    #: Where jobs live: sqlite:///path/to/jobs.db, or memory:// for trials.
    store_url: str
    #: Backoff: base * 2 ** retry_count, at most max_delay, less up to the part that jitter names.
    retry_base_delay: float = 2.0
    retry_max_delay: float = 600.0
    retry_jitter: float = 0.2
    #: A worker that does not renew its lease for this long has lost its job. Renewed each third of it.
    lease_seconds: float = 30.0
    #: The longest that the sweep sleeps between two looks at what is due.
    sweep_seconds: float = 1.0
    #: What a worker's jobs have to end in when it is told to shut down; the rest is then given back. None waits for
    #: as long as they take. Less than what the supervisor grants before it kills (Kubernetes: 30).
    shutdown_grace: float | None = 25.0
    #: When to knock again for a job that nobody took up; doubled with each further knock, at most an hour.
    knock_seconds: float = 30.0
    #: For how long a job is kept once it has ended.
    result_ttl: float = DEFAULT_RESULT_TTL
    #: How long a handler may run, unless it was registered with a limit of its own; None is for ever.
    time_limit: float | None = None
    on_failure_time_limit: float = 30.0
    #: For how long a job waits for a worker that has a handler for its type, before it is a dead letter.
    unknown_job_type_seconds: float = 900.0
    #: How much JSON a payload, or the metadata, may be.
    max_payload_bytes: int = 256 * 1024
    #: Payload keys whose values are never shown in Celery's events; a part of the key is enough, in any case.
    redact: tuple[str, ...] = ("password", "passwd", "secret", "token", "api_key", "apikey", "authorization")
    #: Schedules beside those in code: the path of a TOML file, or a list of ScheduleConfig or of their settings.
    schedules: str | tuple[Any, ...] = ()
    #: What a worker otherwise refuses to start with: pickle, gevent, eventlet, newer-schema.
    allow: tuple[str, ...] = ()


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


_CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "store_url": (lambda value: isinstance(value, str) and bool(value), "a URL such as sqlite:///jobs.db"),
    "retry_jitter": (
        lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1,
        "a number from 0 to 1",
    ),
    "time_limit": (lambda value: value is None or _positive(value), "a number of seconds above 0, or None"),
    "shutdown_grace": (
        lambda value: value is None or value == 0 or _positive(value),
        "a number of seconds from 0 on, or None",
    ),
    "max_payload_bytes": (lambda value: _positive(value) and isinstance(value, int), "an integer above 0"),
    "redact": (
        lambda value: isinstance(value, tuple | list) and all(isinstance(key, str) for key in value),
        "a list of payload keys",
    ),
    "schedules": (
        lambda value: isinstance(value, str | tuple | list),
        "the path of a TOML file, or a list of schedules",
    ),
    "allow": (
        lambda value: isinstance(value, tuple | list) and set(value) <= set(ALLOWABLE),
        f"a list of what is to be allowed, of {', '.join(ALLOWABLE)}",
    ),
}
_SECONDS = (_positive, "a number of seconds above 0")


def read_settings(app: Celery, *, store_url: str | None = None) -> PorticoSettings:
    """Read the settings of a Celery app; ``store_url`` wins over portico_store_url.

    Raises ConfigurationError for one that is missing, unknown, of a wrong value, or written so that Celery does not
    read it.
    """
    known = {field.name: field for field in fields(PorticoSettings)}
    _refuse_unreadable(app, known)
    values = {name: app.conf[_PREFIX + name] for name in known if _PREFIX + name in app.conf}
    if store_url is not None:
        values["store_url"] = store_url
    for name, field in known.items():
        if name not in values and field.default is MISSING:
            raise ConfigurationError(
                f"{_PREFIX}{name} is not set: say where jobs live, by PorticoCelery(app, store=...) or in Celery's "
                "configuration, for example portico_store_url = 'sqlite:///jobs.db'"
            )
    for name, value in values.items():
        accepts, wanted = _CHECKS.get(name, _SECONDS)
        if not accepts(value):
            raise ConfigurationError(f"{_PREFIX}{name} must be {wanted}, not {value!r}")
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = tuple(value)
    return PorticoSettings(**values)


def hide_store_url() -> None:
    """Have Celery hide the store's URL, and so its password, where it shows settings: inspect conf, report, Flower."""
    # By a setting's name it knows what is secret, and there is no way to tell it of others.
    hidden = celery_utils.HIDDEN_SETTINGS  # type: ignore[attr-defined]  # not in the type stubs
    if not hidden.search(_STORE_URL):
        celery_utils.HIDDEN_SETTINGS = re.compile(f"{hidden.pattern}|{_STORE_URL}", hidden.flags)  # type: ignore[attr-defined]  # the same


def check_result_ttl(result_ttl: float) -> None:
    """Raise ConfigurationError where jobs are deleted too soon for schedules.

    A fire time whose job has been made and is not settled yet is known by that job alone: once it is deleted, the next
    beat makes a second one.
    """
    if result_ttl < _LEAST_RESULT_TTL_OF_SCHEDULES:
        raise ConfigurationError(
            f"portico_result_ttl is {result_ttl:g} s, and with schedules it must be at least "
            f"{_LEAST_RESULT_TTL_OF_SCHEDULES:g}: by its job a beat knows that a fire time has had one, where the beat "
            "before it died with that fire time not settled"
        )


def _refuse_unreadable(app: Celery, known: Mapping[str, Any]) -> None:
    app_namespace: str | None = app.namespace  # type: ignore[attr-defined]  # not in the type stubs
    namespace = f"{app_namespace}_".lower() if app_namespace else ""
    for key in list(app.conf.keys()):
        name = str(key).lower().removeprefix(namespace)
        if not name.startswith(_PREFIX):
            continue
        if name.removeprefix(_PREFIX) not in known:
            raise ConfigurationError(f"unknown setting {key}{_suggestion(name, known)}")
        if name not in app.conf:
            expected = (namespace + name).upper() if namespace else name
            raise ConfigurationError(f"Celery does not read the setting {key} under that name: write it {expected}")


def _suggestion(name: str, known: Mapping[str, Any]) -> str:
    # Compared without the prefix, by which all would be alike.
    close = difflib.get_close_matches(name.removeprefix(_PREFIX), known, n=1)
    return f": did you mean {_PREFIX}{close[0]}?" if close else f"; there are {', '.join(map(_PREFIX.__add__, known))}"
