"""Clients that create jobs as fast as they can, and note what they asked for and what they were told."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from portico_celery import PorticoCelery
from portico_celery.exceptions import StoreError, StoreUnavailable
from tests.faults.ledger import accept, append
from tests.waiting import eventually

ACCEPTED = "accepted"
_ATTEMPTED_LOG = "attempted.log"
_ANSWERS_LOG = "answers.log"
# So long a client rests that was refused.
_REST_SECONDS = 0.05


@dataclass(frozen=True)
class Answer:
    """What a client was told: ACCEPTED or the kind of error, and between which moments it waited for that."""

    told: str
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long it waited."""
        return self.ended - self.began


class Answers:
    """The ledgers of clients, read afresh at each look."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def attempted(self) -> list[str]:
        """The ids that were asked for."""
        return self._lines(_ATTEMPTED_LOG)

    @property
    def all(self) -> list[Answer]:
        """Every answer, in the order in which they came."""
        parts = (line.split("|") for line in self._lines(_ANSWERS_LOG))
        return [Answer(told, float(began), float(ended)) for told, began, ended in parts]

    def wait_for(self, what: Callable[[Answer], bool], count: int, seconds: float, when: str = "") -> None:
        """Return when so many more answers of a kind have come."""
        before = len(self.all)

        def shown() -> str:
            return f"{count} answers ({what.__name__}) {when}, but {len(self.all) - before}: {self.all[before:][-5:]}"

        eventually(lambda: sum(map(what, self.all[before:])) >= count, seconds, shown)

    def _lines(self, name: str) -> list[str]:
        path = self._directory / name
        # The last piece is empty, or a line that is being written.
        return path.read_text().split("\n")[:-1] if path.exists() else []


def is_accepted(answer: Answer) -> bool:
    """Whether a job was accepted."""
    return answer.told == ACCEPTED


def is_refused(answer: Answer) -> bool:
    """Whether it was not, however the client was told."""
    return not is_accepted(answer)


class Clients:
    """Threads that create jobs of ids that they know."""

    def __init__(self, portico: PorticoCelery, directory: Path, chance: random.Random, *, threads: int = 4) -> None:
        self._portico = portico
        self._directory = directory
        self._enough = threading.Event()
        self._chance = chance
        self._threads = [threading.Thread(target=self._run, name="creating client") for _ in range(threads)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, each with the create that it is at."""
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._enough.is_set():
            self._create(UUID(int=self._chance.getrandbits(128), version=4))

    def _create(self, job_id: UUID) -> None:
        append(self._directory / _ATTEMPTED_LOG, [str(job_id)])
        began, told = time.time(), ACCEPTED
        try:
            self._portico.sync.create_job("fault.work", {}, job_id=job_id)
        except Exception as error:  # noqa: BLE001  # looked at when all is over
            told = _kind(error)
        ended = time.time()
        if told == ACCEPTED:
            accept(self._directory, [job_id])
        append(self._directory / _ANSWERS_LOG, [f"{told}|{began:.6f}|{ended:.6f}"])
        if told != ACCEPTED:
            self._enough.wait(_REST_SECONDS)


def _kind(error: Exception) -> str:
    # Our own kinds, whatever class it is of; another one is an error of ours, and told in full.
    for kind in (StoreUnavailable, StoreError):
        if isinstance(error, kind):
            return kind.__name__
    return " ".join(repr(error).replace("|", "/").split())


@contextmanager
def creating(portico: PorticoCelery, directory: Path, chance: random.Random, *, threads: int = 4) -> Iterator[Answers]:
    """Have clients create jobs inside the block; yields what they are told."""
    clients = Clients(portico, directory, chance, threads=threads)
    clients.start()
    try:
        yield Answers(directory)
    finally:
        clients.stop()
