"""An application and its ``celery -A shop portico``, run within the test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result

from portico_celery import PorticoCelery
from portico_celery.cli import portico as group


class CommandLine:
    """Runs the commands of one part, ``jobs`` or ``schedules``."""

    def __init__(self, part: str, directory: Path, *, store: str | None = None) -> None:
        self.part = part
        self.app = Celery("shop", broker="portico-memory://", set_as_current=False)
        self.portico = PorticoCelery(self.app, store=store or f"sqlite:///{directory / 'jobs.db'}")

    def run(self, *arguments: str, typed: str | None = None) -> Result:
        """Run a command; ``typed`` is what is answered where it asks."""
        context = CLIContext(app=self.app, no_color=True, workdir=None)
        return CliRunner().invoke(group, [self.part, *arguments], obj=context, input=typed)

    def printed(self, *arguments: str) -> str:
        """Return what a command prints that ends well."""
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.output

    def document(self, *arguments: str) -> Any:
        """Return the JSON that a command prints."""
        return json.loads(self.printed(*arguments, "--json"))

    def close(self) -> None:
        """Release everything."""
        self.portico.close()
        self.app.close()
