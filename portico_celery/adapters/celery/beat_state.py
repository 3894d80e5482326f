"""What beat remembers of an application's own entries, in a file that is whole whenever beat is killed.

Celery's own keeps it in a database file, which it writes every three minutes, in place.
"""

from __future__ import annotations

import dbm
import os
import pickle
import shelve
from pathlib import Path
from typing import Any

from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

#: Beside the file that Celery's own scheduler would use, so that both can be tried.
SUFFIX = ".portico"


class BeatState(dict[str, Any]):
    """A dict that is written as a whole, to a new file that then takes the old one's place."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        super().__init__(content)
        self._path = path

    def sync(self) -> None:
        """Write it all."""
        new = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
        with new.open("wb") as file:
            pickle.dump(dict(self), file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)

    def close(self) -> None:
        """There is nothing that has to be closed."""


class persistence:  # noqa: N801  # stands in for the module shelve
    """What PersistentScheduler opens its state by."""

    @staticmethod
    def open(filename: str, writeback: bool = True) -> BeatState:  # noqa: ARG004  # shelve's signature
        """Open the state; where there is none yet, that which Celery's own scheduler has left is taken over."""
        path = Path(f"{filename}{SUFFIX}")
        if path.exists():
            with path.open("rb") as file:
                return BeatState(path, pickle.load(file))  # noqa: S301  # beat's own file, which shelve pickles too
        return BeatState(path, _left_by_celery(filename))


def _left_by_celery(filename: str) -> dict[str, Any]:
    if not dbm.whichdb(filename):
        return {}
    try:
        with shelve.open(filename, "r") as stock:  # noqa: S301  # as Celery itself opens it
            return dict(stock)
    except Exception as error:  # noqa: BLE001  # whatever is wrong with it, Celery too would begin anew
        logger.warning("beat_state_not_taken_over", file=filename, error=repr(error))
        return {}
