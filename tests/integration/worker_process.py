"""Real processes for the integration tests: Celery workers and the web application, and what they share.

A Journey is what the processes of some tests have in common: a broker, a job store, a queue that nobody else uses, and
a ledger to which the handlers of journey_app write what is asked of them.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID, uuid4

from celery import Celery
from kombu import Connection, Exchange, Queue

from portico_celery import PorticoCelery
from portico_celery.lifecycle import TERMINAL
from portico_celery.ports.job import JobStatus
from portico_celery.ports.job_reader import JobRecord
from tests.waiting import eventually

T = TypeVar("T")

APP = "tests.integration.journey_app"
POOLS = ("prefork", "threads", "solo")

START_SECONDS = 30.0
STOP_SECONDS = 20.0

ROOT = Path(__file__).resolve().parents[2]
# What a developer's shell may say to these programs is not for the ones under test.
_NOT_INHERITED = ("CELERY_", "FLASK_", "GUNICORN_", "JOURNEY_", "PORTICO_", "WEB_CONCURRENCY")
_SHOWN_CHARS = 6_000
_LISTENING = re.compile(r"Listening at: http://([\d.]+):(\d+)")


class Program:
    """A program under test, in a process group of its own, with all that it says in a log.

    As a context manager it is stopped at the end of the block, unless the test has ended it.
    """

    def __init__(self, name: str, command: Sequence[str], *, directory: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self._log = directory / f"{name}.log"
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        try:
            self.wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.running:
            return
        if error is None:
            self.stop()
        else:
            self.kill()

    @property
    def pid(self) -> int:
        """The main process, and the process group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the main process lives."""
        return self._process.poll() is None

    @property
    def log(self) -> str:
        """All that the program has said so far."""
        return self._log.read_text(errors="replace")

    @property
    def log_tail(self) -> str:
        """The end of the log, under the program's name."""
        return f"--- {self.name} (pid {self.pid}, exit code {self._process.poll()}):\n{self.log[-_SHOWN_CHARS:]}"

    def wait_until_ready(self) -> None:
        """Return when the program does its work."""
        eventually(self._ready_or_ended, START_SECONDS, lambda: f"{self.name} that is ready\n{self.log_tail}")

    def is_ready(self) -> bool:
        """Whether the program does its work."""
        raise NotImplementedError

    def _ready_or_ended(self) -> bool:
        if not self.running:
            raise RuntimeError(f"{self.name} ended before it was ready\n{self.log_tail}")
        return self.is_ready()

    def stop(self) -> None:
        """Ask for an end, which is for the main process alone to arrange, and wait for it."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not stop within {STOP_SECONDS} s\n{self.log_tail}") from None

    def kill(self) -> None:
        """End every process of the group at once by SIGKILL, as a power cut would."""
        with suppress(ProcessLookupError):  # all of them have ended
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


class Beat(Program):
    """``celery beat``."""

    def is_ready(self) -> bool:
        """Whether it ticks."""
        return "beat: Starting..." in self.log


class Worker(Program):
    """``celery -A journey_app worker``."""

    def is_ready(self) -> bool:
        """Whether it consumes."""
        return f"{self.name}@localhost ready." in self.log

    def received(self, task_id: object) -> int:
        """Count the messages of a task that have reached it."""
        return len(re.findall(rf"Task \S+\[{re.escape(str(task_id))}\] received", self.log))


@dataclass(frozen=True)
class Answer:
    """What the web application said."""

    status: int
    headers: Mapping[str, str]
    document: Any


class Web(Program):
    """``gunicorn 'webhook_app:create_app()'``, on a port that the system chose."""

    def is_ready(self) -> bool:
        """Whether it answers."""
        return _LISTENING.search(self.log) is not None and self.get("/").status == http.HTTPStatus.NOT_FOUND

    def get(self, path: str) -> Answer:
        """GET a path."""
        return self._request("GET", path, None, {})

    def post(self, path: str, document: Mapping[str, Any]) -> Answer:
        """POST a JSON document."""
        return self._request("POST", path, json.dumps(document), {"Content-Type": "application/json"})

    def _request(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> Answer:
        listening = _LISTENING.search(self.log)
        assert listening is not None, self.log_tail
        connection = http.client.HTTPConnection(listening[1], int(listening[2]), timeout=START_SECONDS)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), json.loads(response.read()))
        finally:
            connection.close()


@dataclass(frozen=True)
class Line:
    """A line of the ledger: what was asked of the handler of which job, at which retry."""

    kind: str
    job_id: str
    retry_count: int
    detail: str


@dataclass(kw_only=True)
class Journey:
    """The surroundings of some tests, and a client's view of its jobs."""

    directory: Path
    broker_url: str
    queue_name: str
    settings: Mapping[str, Any]
    portico: PorticoCelery
    programs: list[Program] = field(default_factory=list)
    other_queues: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def store_url(self) -> str:
        """Where the jobs live."""
        return f"sqlite:///{self.directory / 'jobs.db'}"

    def another_queue(self) -> str:
        """Name a further queue that nobody else uses."""
        self.other_queues.append(f"{self.queue_name}-{len(self.other_queues)}")
        return self.other_queues[-1]

    def worker(self, pool: str = "prefork", *options: str, concurrency: int = 2, queues: str | None = None) -> Worker:
        """Start a worker; as a context manager it is ready."""
        name = f"worker-{next(self._numbers)}-{uuid4().hex[:8]}"
        command = [sys.executable, "-m", "celery", "-A", APP, "worker", "-P", pool, "-c", str(concurrency)]
        command += ["-Q", queues or self.queue_name, "-n", f"{name}@localhost", "-l", "INFO"]
        # Neither greetings to nor gossip with the workers of others on the same broker.
        command += ["--without-mingle", "--without-gossip", *options]
        return self._started(Worker(name, command, directory=self.directory, environment=self.environment))

    def web(self) -> Web:
        """Start the web application; as a context manager it answers."""
        name = f"web-{next(self._numbers)}"
        command = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--threads", "4"]
        command += ["--bind", "127.0.0.1:0", "webhook_app:create_app()"]
        return self._started(Web(name, command, directory=self.directory, environment=self.environment))

    def _started(self, program: T) -> T:
        assert isinstance(program, Program)
        self.programs.append(program)
        return program

    @property
    def environment(self) -> dict[str, str]:
        """What the programs are told."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
        return inherited | {
            "HOME": str(self.directory),  # gunicorn puts a socket there
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PORTICO_APP": f"{APP}:app",
            "PORTICO_WEBHOOK_AUTH": "none",
            "JOURNEY_BROKER": self.broker_url,
            "JOURNEY_STORE": self.store_url,
            "JOURNEY_QUEUE": self.queue_name,
            "JOURNEY_LEDGER": str(self.ledger_path),
            "JOURNEY_SETTINGS": json.dumps(dict(self.settings)),
        }

    @property
    def ledger_path(self) -> Path:
        """The file that the handlers append to."""
        return self.directory / "ledger"

    def ledger(self, job_id: object = None, kind: str | None = None) -> list[Line]:
        """Return the lines of the ledger, oldest first, or those of one job or kind."""
        text = self.ledger_path.read_text() if self.ledger_path.exists() else ""
        # The last piece is empty, or a line that is being written.
        parts = (line.split("|", 3) for line in text.split("\n")[:-1])
        lines = [Line(what, job, int(retry_count), detail) for what, job, retry_count, detail in parts]
        return [
            line
            for line in lines
            if (job_id is None or line.job_id == str(job_id)) and (kind is None or line.kind == kind)
        ]

    def create(self, job_type: str, payload: dict[str, Any] | None = None, **kwargs: Any) -> UUID:
        """Create a job from this process."""
        self.portico.declare(job_type, queue=self.queue_name)
        return self.portico.sync.create_job(job_type, payload or {}, **kwargs).id

    def record(self, job_id: UUID) -> JobRecord:
        """Return what the store knows of a job, which must be there."""
        record = self.portico.sync.get_record(job_id)
        assert record is not None, f"there is no job {job_id}"
        return record

    def ended(self, job_id: UUID, timeout: float = 30.0) -> JobRecord:
        """Return a job's record when the job has come to an end."""

        def terminal() -> JobRecord | None:
            record = self.record(job_id)
            return record if record.job.status in TERMINAL else None

        return self.eventually(terminal, f"the end of job {job_id}", timeout)

    def completed(self, job_id: UUID, timeout: float = 30.0) -> JobRecord:
        """Return a job's record when the job has come to a good end."""
        record = self.ended(job_id, timeout)
        assert record.job.status is JobStatus.COMPLETED, f"{record}\n{self.shown()}"
        return record

    def started(self, job_id: UUID) -> int:
        """Wait until a handler has begun with a job; returns the process that it runs in."""
        lines = self.eventually(lambda: self.ledger(job_id, "start"), f"the start of job {job_id}")
        return int(lines[-1].detail)

    def eventually(self, predicate: Callable[[], T | None], what: str, timeout: float = 30.0) -> T:
        """Wait as tests.waiting does; where that fails, tell the ledger and the logs."""
        value = eventually(predicate, timeout, lambda: f"{what}\n{self.shown()}")
        assert value is not None
        return value

    def shown(self) -> str:
        """Tell how things stand."""
        ledger = self.ledger_path.read_text()[-_SHOWN_CHARS:] if self.ledger_path.exists() else "nothing"
        return "\n".join([f"--- ledger:\n{ledger}", *(program.log_tail for program in self.programs)])


@contextmanager
def a_journey(amqp_url: str, directory: Path, **settings: Any) -> Iterator[Journey]:
    """Yield the surroundings of some tests; ``settings`` are portico_ settings without the prefix."""
    app = Celery("client", broker=amqp_url, set_as_current=False)
    journey = Journey(
        directory=directory,
        broker_url=amqp_url,
        queue_name=f"portico-test-{uuid4().hex}",
        settings={f"portico_{name}": value for name, value in settings.items()},
        portico=PorticoCelery(app, store=f"sqlite:///{directory / 'jobs.db'}"),
    )
    try:
        yield journey
    finally:
        journey.portico.close()
        app.close()
        with Connection(amqp_url) as connection:
            for name in (journey.queue_name, *journey.other_queues):
                Queue(name, channel=connection.default_channel).delete()
                Exchange(name, channel=connection.default_channel).delete()  # Celery makes one of the same name
