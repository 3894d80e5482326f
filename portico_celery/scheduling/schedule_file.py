"""Schedules from configuration: a TOML file, or a list in Celery's configuration. A fault is named with its place."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from portico_celery.exceptions import ConfigurationError, InvalidSchedule, ValidationError
from portico_celery.ports.schedule import ScheduleConfig
from portico_celery.scheduling.schedule import CheckJob
from portico_celery.scheduling.schedule_book import ScheduleBook

_TABLES = "schedules"
_SETTINGS = tuple(field.name for field in fields(ScheduleConfig) if field.name != "_")
_HEADER = re.compile(r"\s*\[\[\s*schedules\s*\]\]")
_OTHER_HEADER = re.compile(r"\s*\[\[?(?!\s*schedules\s*[.\]])")


def add_configured(book: ScheduleBook, setting: Any, *, check_job: CheckJob) -> ScheduleBook:
    """Add to the book what the setting portico_schedules names, all or nothing, and return it. A path is a TOML file's.

    ``check_job`` is that of the creator who is to make their jobs.

    Raises ConfigurationError, which names the file and line, or the place in the list.
    """
    scratch = book.copy()
    for configured in _from_file(Path(setting)) if isinstance(setting, str | Path) else _from_list(setting):
        try:
            scratch.add(_config(configured.settings), check_job=check_job)
        except InvalidSchedule as error:
            raise ConfigurationError(f"{configured.place_of(error.setting)}: {error}") from error
        except ValidationError as error:
            raise ConfigurationError(f"{configured.place_of(error.argument)}: {error}") from error
        except ConfigurationError as error:
            raise ConfigurationError(f"{configured.place_of(None)}: {error}") from error
    book.take(scratch)
    return book


@dataclass(frozen=True, kw_only=True)
class _Configured:
    """The settings of one schedule, and where each stands."""

    settings: Any
    place_of: Callable[[str | None], str]


def _from_list(items: Sequence[Any]) -> Iterator[_Configured]:
    for number, item in enumerate(items):
        yield _Configured(settings=item, place_of=partial(_place_in_list, number))


def _place_in_list(number: int, _setting: str | None) -> str:
    return f"portico_schedules[{number}]"


def _from_file(path: Path) -> Iterator[_Configured]:
    text, document = _read(path)
    lines = text.splitlines()
    tables = document.pop(_TABLES, [])
    if document:
        name = next(iter(document))
        raise ConfigurationError(f"{path}:{_line_of(lines, name)}: unknown {name!r}; a file has [[{_TABLES}]] alone")
    if not isinstance(tables, list):
        raise ConfigurationError(f"{path}:{_line_of(lines, _TABLES)}: each schedule is a table, [[{_TABLES}]]")
    for number, table in enumerate(tables):
        yield _Configured(settings=table, place_of=partial(_place_in_file, path, lines, number))


def _place_in_file(path: Path, lines: Sequence[str], number: int, setting: str | None) -> str:
    return f"{path}:{_line_in_table(lines, number, setting)}"


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise ConfigurationError(f"portico_schedules: {path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: must be UTF-8: {error}") from error
    except tomllib.TOMLDecodeError as error:  # it names line and column
        raise ConfigurationError(f"{path}: {error}") from error


def _config(settings: Any) -> ScheduleConfig:
    if isinstance(settings, ScheduleConfig):
        return settings
    if not isinstance(settings, Mapping):
        raise ConfigurationError(f"must be a ScheduleConfig or a table of its settings, not {settings!r:.80}")
    for key in settings:
        if key not in _SETTINGS:
            close = difflib.get_close_matches(str(key), _SETTINGS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(_SETTINGS)}"
            raise InvalidSchedule(str(key), f"unknown setting; {hint}")
    for key in ("cron", "job_type"):
        if key not in settings:
            raise InvalidSchedule(key, "is missing")
    return ScheduleConfig(**settings)


def _line_in_table(lines: Sequence[str], place: int, setting: str | None) -> int:
    headers = [number for number, line in enumerate(lines, start=1) if _HEADER.match(line)]
    # Tables that are written as one array have no header of their own.
    header = headers[place] if place < len(headers) else _line_of(lines, _TABLES)
    return header if setting is None else _line_below(lines, header, setting)


def _line_below(lines: Sequence[str], header: int, setting: str) -> int:
    wanted = re.compile(rf"\s*(\[schedules\.)?[\"']?{re.escape(setting)}[\"']?\s*[.=\]]")
    for number in range(header + 1, len(lines) + 1):
        line = lines[number - 1]
        if _HEADER.match(line) or _OTHER_HEADER.match(line):
            break
        if wanted.match(line):
            return number
    return header


def _line_of(lines: Sequence[str], name: str) -> int:
    wanted = re.compile(rf"\s*\[*\s*[\"']?{re.escape(name)}\b")
    return next((number for number, line in enumerate(lines, start=1) if wanted.match(line)), 1)
