"""A real PostgreSQL for the tests: one that runs, or one of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote
from uuid import uuid4

import psycopg

from tests.services import HANDSHAKE_SECONDS, START_SECONDS, STOP_SECONDS, Service, ServiceMissing, free_port
from tests.waiting import eventually

# The server refuses to run as root.
_UNPRIVILEGED = "postgres"


def speaks_postgresql(url: str) -> bool:
    """Whether a server takes a login and a statement."""
    try:
        with psycopg.connect(url, connect_timeout=int(HANDSHAKE_SECONDS)) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


@contextmanager
def own_schema(url: str) -> Iterator[str]:
    """Yield a URL at which nothing is there yet; what comes to be there is removed afterwards."""
    schema = f"portico_test_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{schema}"')
        try:
            # Nobody cuts the power here, and the disk is everybody's.
            yield f"{url}?options={quote(f'-c search_path={schema} -c synchronous_commit=off')}"
        finally:
            connection.execute(f'DROP SCHEMA "{schema}" CASCADE')


class PrivatePostgreSQL:
    """A server that belongs to a test: to be stopped, frozen, killed and started again on the same data and port."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._directory = directory
        self._data = directory / "data"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server, on the data that is there, and return when it answers."""
        if not self._data.exists():
            self._make_cluster()
        with (self._directory / "output.txt").open("ab") as output:
            self._process = subprocess.Popen(
                [
                    *(_program("postgres"), "-D", str(self._data), "-p", str(self.port)),
                    *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=_user(),
                start_new_session=True,
            )
        try:
            eventually(self._answers, START_SECONDS, lambda: f"a PostgreSQL that answers\n{self._output()}")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Let the server shut down at once, but in good order."""
        if self._process is None:
            return
        self.thaw()
        self._process.send_signal(signal.SIGINT)
        self._process.wait(STOP_SECONDS)
        self._process = None

    def kill(self) -> None:
        """End the server and all its processes with SIGKILL."""
        if self._process is None:
            return
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """Stop all the server's processes where they stand."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        # The server that is stopped starts no further process. Each process has a session, and so a group, of its own.
        os.kill(self._process.pid, number)
        for child in Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(child), number)

    def _make_cluster(self) -> None:
        self._data.mkdir(mode=0o700)
        user = _user()
        if user is not None:
            shutil.chown(self._data, user)
            for parent in (self._directory, *self._directory.parents):
                if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o001:
                    parent.chmod(parent.stat().st_mode | 0o011)
        subprocess.run(
            [_program("initdb"), "-D", str(self._data), "-U", "postgres", "-A", "trust", "--no-sync"],
            check=True,
            capture_output=True,
            user=user,
            cwd="/",
        )

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"postgres ended with {self._process.returncode}\n{self._output()}")
        return speaks_postgresql(self.url)

    def _output(self) -> str:
        return (self._directory / "output.txt").read_text(errors="replace")[-4000:]


def _program(name: str) -> str:
    # Debian keeps the server's programs off the PATH.
    found = shutil.which(name) or next(map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)
    if found is None:
        raise ServiceMissing(f"{name} is not on PATH")
    return found


def _user() -> str | None:
    return _UNPRIVILEGED if os.geteuid() == 0 else None


@contextmanager
def _private(directory: Path) -> Iterator[str]:
    with PrivatePostgreSQL(directory) as server:
        yield server.url


POSTGRESQL = Service(
    name="PostgreSQL",
    variable="PORTICO_TEST_POSTGRES_URL",
    usual_url="postgresql://postgres@127.0.0.1:5432/postgres",
    answers=speaks_postgresql,
    start_private=_private,
    advice="Install postgresql (the tests start one of their own), or name one in PORTICO_TEST_POSTGRES_URL.",
)
