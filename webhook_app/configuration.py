"""What the application is told: by a TOML file, by its environment, and by ``create_app``'s argument."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marshmallow import ValidationError

from portico_celery.exceptions import ConfigurationError
from webhook_app.configuration_schema import FileSchema, misplaced

APP = "PORTICO_APP"
_OURS = "PORTICO_WEBHOOK_"
_FILE = "PORTICO_WEBHOOK_CONFIG"
# What can be said in a single variable, and how it is read from text.
_LISTS = ("allowed_job_types", "allowed_queues")
_NUMBERS = ("max_body_bytes", "max_batch_bytes", "max_pending", "proxies")
_TEXTS = ("prefix", "auth", "default_queue", "log_level")
_SWITCHES = ("jobs_api", "docs")
_VARIABLES = {f"{_OURS}{name.upper()}": name for name in (*_LISTS, *_NUMBERS, *_TEXTS, *_SWITCHES)}
_STORAGE = "PORTICO_WEBHOOK_RATE_LIMIT_STORAGE"


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """The values of the file, with what the environment says in their place.

    PORTICO_APP is where the Celery application is, as ``celery -A`` takes it; PORTICO_WEBHOOK_CONFIG the file; and
    ``PORTICO_WEBHOOK_<NAME>`` stands for the file's ``<name>``, lists separated by commas.
    """

    celery_app: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, config: Mapping[str, object]) -> Configuration:
        """Read ``config`` and, for what it does not say, the environment, then the file. Raises ConfigurationError."""
        told = {**os.environ, **config}
        _refuse_unknown(told)
        values = _from_file(_text(told, _FILE)) | dict(_from_variables(told))
        storage = _text(told, _STORAGE)
        if storage:
            values["rate_limits"] = {**values.get("rate_limits", {}), "storage": storage}
        return cls(celery_app=_text(told, APP) or values.get("celery_app"), values=_checked(values))


def _from_file(name: str) -> dict[str, Any]:
    if not name:
        return {}
    try:
        return tomllib.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{_FILE}={name} can't be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{name} is not TOML: {error}") from error


def _from_variables(told: Mapping[str, object]) -> Iterator[tuple[str, Any]]:
    for variable, name in _VARIABLES.items():
        text = _text(told, variable)
        if text:
            yield name, _value(variable, name, text)


def _value(variable: str, name: str, text: str) -> Any:
    if name in _LISTS:
        # Nothing but commas is a mistake, and a mistake does not open the door: it allows nothing.
        return [part.strip() for part in text.split(",") if part.strip()]
    if name in _SWITCHES:
        if text not in ("true", "false"):
            raise ConfigurationError(f"{variable} must be true or false, not {text!r}")
        return text == "true"
    if name in _NUMBERS:
        if not text.isdecimal():
            raise ConfigurationError(f"{variable} must be a whole number, not {text!r}")
        return int(text)
    return text


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    # TOML has times of its own, which the schema reads as text.
    plain = {**values, "keys": [_with_text_times(key) for key in values.get("keys", [])]}
    try:
        loaded: dict[str, Any] = FileSchema().load(plain)
    except ValidationError as error:
        raise ConfigurationError(
            f"the configuration of the webhook is wrong: {error.messages_dict}{misplaced(error.messages_dict)}"
        ) from None
    return loaded


def _with_text_times(key: Any) -> Any:
    if not isinstance(key, dict):
        return key
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in key.items()}


def _refuse_unknown(told: Mapping[str, object]) -> None:
    known = {*_VARIABLES, _FILE, _STORAGE}
    unknown = sorted(name for name in told if name.startswith(_OURS) and name not in known)
    if unknown:
        raise ConfigurationError(f"{', '.join(unknown)}: not known here; known are {APP}, {', '.join(sorted(known))}")


def _text(told: Mapping[str, object], name: str) -> str:
    value = told.get(name, "")
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be text, as in the environment, not {type(value).__name__}")
    return value.strip()
