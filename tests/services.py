"""Where the tests get the servers that they talk to: one that is named, one that runs here, or one of their own.

A further kind of server is a further Service at the end of this module, and a fixture in conftest.py.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import pytest
from amqp import AMQPError
from kombu import Connection
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.waiting import eventually

HANDSHAKE_SECONDS = 2.0
START_SECONDS = 60.0
STOP_SECONDS = 30.0


class ServiceMissing(Exception):
    """This machine has no such server, and none can be started on it."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """A kind of server, and how to come by one."""

    name: str
    variable: str  # the environment variable that names a running one
    usual_url: str  # where one runs by default
    answers: Callable[[str], bool]  # whether the server at a URL speaks its protocol
    start_private: Callable[[Path], AbstractContextManager[str]]  # raises ServiceMissing where that can't be
    advice: str

    @contextmanager
    def running(self, directory: Path) -> Iterator[str]:
        """Yield the URL of a server; one that has to be started keeps its data in the directory."""
        named = os.environ.get(self.variable)
        if named and not self.answers(named):
            # Somebody asked for that very server: going on with another would test something else.
            raise ConnectionError(f"{self.variable} names a {self.name} that does not answer")
        if named or self.answers(self.usual_url):
            yield named or self.usual_url
            return
        with self.start_private(directory) as url:
            yield url


def speaks_amqp(url: str) -> bool:
    """Whether a broker completes the whole handshake, login included: an open port alone proves nothing."""
    transport = Connection(url, connect_timeout=HANDSHAKE_SECONDS).transport
    try:
        # Not Connection.connect, which waits and tries again.
        transport.close_connection(transport.establish_connection())
    except (AMQPError, OSError):
        return False
    return True


class PrivateRabbitMQ:
    """A RabbitMQ node that belongs to a test: stopped, frozen, killed and started again, on the same data and port.

    ``config`` holds settings of the broker as Erlang terms: ``{"consumer_timeout": "5000"}``. All that the node keeps
    is under ``data``, for tests that take it away. As a context manager it runs inside the block.
    """

    def __init__(self, directory: Path, config: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self.environment = self._environment()
        self._process: subprocess.Popen[bytes] | None = None
        self._write_files(config or {})

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the node, on the data that is there, and return when it takes connections."""
        program = rabbitmq_server()
        if program is None:
            raise ServiceMissing("rabbitmq-server is not on PATH")
        with (self.directory / "output.txt").open("ab") as output:
            # A session of its own: a signal to its group reaches the shell, the virtual machine and its helpers,
            # and Ctrl-C at the tests' terminal none of them.
            self._process = subprocess.Popen(
                [program],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            eventually(self._answers, START_SECONDS, lambda: f"a RabbitMQ node that answers\n{self._output()}")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Let the node shut down in good order."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._process = None

    def kill(self) -> None:
        """End the node with SIGKILL: it has no time to flush anything or to say goodbye."""
        if self._process is None:
            return
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """Stop the node's process where it stands: the system goes on to take connections and data in its name."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen node go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"rabbitmq-server ended with {self._process.returncode}\n{self._output()}")
        return speaks_amqp(self.url)

    def _output(self) -> str:
        return (self.directory / "output.txt").read_text(errors="replace")[-4000:]

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        here = self.directory
        return (
            inherited
            | {
                "HOME": str(here / "home"),  # where Erlang keeps its cookie
                "ERL_EPMD_ADDRESS": "127.0.0.1",
                "RABBITMQ_NODENAME": f"portico-{uuid4().hex[:12]}@localhost",
                "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
                "RABBITMQ_NODE_PORT": str(self.port),
                "RABBITMQ_DIST_PORT": str(free_port()),
                # One scheduler: several nodes may share a small machine with the tests themselves.
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 -kernel inet_dist_use_interface {127,0,0,1}",
                "RABBITMQ_MNESIA_BASE": str(self.data),
                "RABBITMQ_LOG_BASE": str(here / "log"),
                "RABBITMQ_PID_FILE": str(here / "pid"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(here / "enabled_plugins"),
                # Nothing of the machine's own RabbitMQ is read: not its settings, and not its environment.
                "RABBITMQ_CONF_ENV_FILE": os.devnull,
                "RABBITMQ_CONFIG_FILE": str(here / "rabbitmq.conf"),
                "RABBITMQ_CONFIG_FILES": str(here / "no-further-files"),
                "RABBITMQ_ADVANCED_CONFIG_FILE": str(here / "advanced.config"),
            }
        )

    def _write_files(self, config: Mapping[str, str]) -> None:
        (self.directory / "home").mkdir(parents=True, exist_ok=True)
        settings = ", ".join(f"{{{name}, {term}}}" for name, term in config.items())
        (self.directory / "advanced.config").write_text(f"[{{rabbit, [{settings}]}}].\n")
        (self.directory / "rabbitmq.conf").write_text("")
        (self.directory / "enabled_plugins").write_text("[].\n")


def rabbitmq_server() -> str | None:
    """Return the program that starts a node as whoever runs the tests, or None."""
    # Debian's command on PATH is a wrapper that changes to the user rabbitmq and the system's data, or refuses.
    return shutil.which("rabbitmq-server", path="/usr/lib/rabbitmq/bin") or shutil.which("rabbitmq-server")


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def speaks_redis(url: str) -> bool:
    """Whether a Redis answers a PING."""
    with Redis.from_url(url, socket_timeout=HANDSHAKE_SECONDS, retry=Retry(NoBackoff(), 0)) as client:
        try:
            return bool(client.ping())
        except RedisError:
            return False


class PrivateRedis:
    """A Redis server that belongs to a test: to be stopped, frozen, killed and started again on the same data and port.

    ``options`` are those of its command line. As a context manager it runs inside the block.
    """

    def __init__(self, directory: Path, **options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, *, appendonly: bool = True) -> None:
        """Start the server, on the data that is there, and return when it answers."""
        program = shutil.which("redis-server")
        if program is None:
            raise ServiceMissing("redis-server is not on PATH")
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self._directory),
            "save": "",
            "appendonly": "yes" if appendonly else "no",
            **self._options,
        }
        arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
        with (self._directory / "output.txt").open("ab") as output:
            self._process = subprocess.Popen(
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C at the tests' terminal does not reach it
            )
        try:
            eventually(self._answers, START_SECONDS, lambda: f"a Redis server that answers\n{self._output()}")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Let the server shut down in good order."""
        if self._process is None:
            return
        self.thaw()
        self._process.terminate()
        self._process.wait(STOP_SECONDS)
        self._process = None

    def kill(self) -> None:
        """End the server with SIGKILL: it has no time to write anything."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """Stop the server's process where it stands: the system goes on to take connections and data in its name."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"redis-server ended with {self._process.returncode}\n{self._output()}")
        return speaks_redis(self.url)

    def _output(self) -> str:
        return (self._directory / "output.txt").read_text(errors="replace")[-4000:]


@contextmanager
def _private_redis(directory: Path) -> Iterator[str]:
    with PrivateRedis(directory) as server:
        yield server.url


@contextmanager
def _private_rabbitmq(directory: Path) -> Iterator[str]:
    with PrivateRabbitMQ(directory) as node:
        yield node.url


@contextmanager
def needed(service: Service) -> Iterator[None]:
    """Where the block finds no such server: skip the test, or fail where CI=true."""
    try:
        yield
    except ServiceMissing as error:
        # A developer without the server still hears what the other tests say; a green CI must have run them all.
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(f"{service.name} is needed where CI=true: {error}. {service.advice}")
        pytest.skip(f"{skip_reason(service)} {error}")


def skip_reason(service: Service) -> str:
    """Return how the reason of a test begins that was skipped for want of a server."""
    return f"no {service.name}:"


RABBITMQ = Service(
    name="RabbitMQ",
    variable="PORTICO_TEST_AMQP_URL",
    usual_url="amqp://guest:guest@127.0.0.1:5672//",
    answers=speaks_amqp,
    start_private=_private_rabbitmq,
    advice="Install rabbitmq-server (the tests start a node of their own), or name one in PORTICO_TEST_AMQP_URL.",
)

REDIS = Service(
    name="Redis",
    variable="PORTICO_TEST_REDIS_URL",
    usual_url="redis://127.0.0.1:6379/0",
    answers=speaks_redis,
    start_private=_private_redis,
    advice="Install redis-server (the tests start one of their own), or name one in PORTICO_TEST_REDIS_URL.",
)
